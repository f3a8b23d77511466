"""One-dimensional torsion scans: constrained minima around a bond, each begun at its neighbour's geometry."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from espalike.chem.bonds import intact
from espalike.chem.molecule import Molecule
from espalike.qm.base import Calculator, CalculatorError
from espalike.qm.sampling.base import minima, seed_of, stored
from espalike.qm.sampling.constrained import constrained
from espalike.qm.sampling.torsions import ROTATABLE, Dihedrals, chosen, grid, measured, suffix


@dataclass(frozen=True)
class Scan:
    """Relaxed scans of torsions; every torsion is an entry of its own, called `<molecule>-scan-i-j-k-l`.

    From a minimum the scan goes once around upwards and once around downwards. Each point starts from the geometry
    of the one before; of the two geometries of an angle the lower stays.

    Attributes:
        calculator: what is minimised.
        spacing: of the grid [degree]; divides 360.
        dihedrals: torsions to scan, rows of four atom indices from 0, or a CSV file with columns `name`, `dihedral`;
            None takes every rotatable bond.
        bonds: SMARTS pattern of the bonds that count as rotatable.
        steps: of the optimiser at each point.
        convergence: criteria by geomeTRIC's name.
        minimise: steps of energy minimisation of the start.
        seed: of the embedding, together with the molecule's SMILES.
    """

    calculator: Calculator
    spacing: int = 15
    dihedrals: Dihedrals = None
    bonds: str = ROTATABLE
    steps: int = 200
    convergence: str = "GAU"
    minimise: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        grid(self.spacing)

    @property
    def frames(self) -> int:
        """Points of a scan."""
        return 360 // self.spacing

    @property
    def driven(self) -> tuple[int, ...] | None:
        """The torsion, where one is given."""
        one = self.dihedrals is not None and not isinstance(self.dihedrals, str) and len(self.dihedrals) == 1
        return tuple(map(int, self.dihedrals[0])) if one and self.dihedrals else None

    def entries(self, molecule: Molecule) -> dict[str, Scan]:
        """A scan for each torsion of the molecule.

        Raises:
            ValueError: when it has none.
        """
        rows = chosen(molecule, self.dihedrals, self.bonds, sizes=(4,))
        return {suffix("scan", row): dataclasses.replace(self, dihedrals=(row,)) for row in rows}

    def __call__(self, molecule: Molecule, starts: np.ndarray | None = None) -> np.ndarray:
        """Geometries [Å], shape `(K, A, 3)`, at the angles of `grid(spacing)`; see `Geometries`.

        Raises:
            CalculatorError: when an angle has no geometry.
            ValueError: when the molecule has several torsions to scan; `entries` gives one each.
        """
        rows = chosen(molecule, self.dihedrals, self.bonds, sizes=(4,))
        if len(rows) != 1:
            raise ValueError(f"{molecule.name}: {len(rows)} torsions to scan; expected one, take `entries`")
        start = minima(self.calculator, molecule, starts, 1, self.minimise, seed_of(molecule, self.seed))[0]
        points = self._sweep(molecule, start, rows[0])
        return stored([points[angle] for angle in grid(self.spacing)])

    def _sweep(self, molecule: Molecule, start: np.ndarray, torsion: tuple[int, ...]) -> dict[int, np.ndarray]:
        """The lowest geometry at each angle of the grid."""
        angles = grid(self.spacing)
        now = measured(start, torsion)
        first = min(range(len(angles)), key=lambda i: abs((angles[i] - now + 180) % 360 - 180))
        upwards = angles[first:] + angles[:first]
        best: dict[int, tuple[float, np.ndarray]] = {}
        errors: dict[int, CalculatorError] = {}
        xyz = start
        for angle in upwards + upwards[::-1]:
            try:
                energy, found = constrained(
                    self.calculator, molecule, xyz, {torsion: angle}, self.steps, self.convergence
                )
                if not intact(molecule, found):
                    raise CalculatorError("bonds broken", f"{molecule.name}: bonds break or form at {angle}°")
            except CalculatorError as error:
                errors[angle] = error
                continue
            xyz = found
            if angle not in best or energy < best[angle][0]:
                best[angle] = (energy, found)
        for angle in angles:
            if angle not in best:
                raise errors[angle]
        return {angle: geometry for angle, (_, geometry) in best.items()}
