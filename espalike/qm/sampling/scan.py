"""One-dimensional torsion scans: constrained minima around a bond, each begun at its neighbour's geometry."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial

import numpy as np

from espalike.chem.bonds import intact
from espalike.chem.molecule import Molecule
from espalike.qm.base import Calculator, CalculatorError
from espalike.qm.sampling.base import check_settings, minima, seed_of, stored
from espalike.qm.sampling.constrained import constrained
from espalike.qm.sampling.restrained import restrained_batch, side_by_side
from espalike.qm.sampling.torsions import ROTATABLE, Dihedrals, chosen, grid, measured, suffix


@dataclass(frozen=True)
class Scan:
    """Relaxed scans of torsions; every torsion is a separate entry, called `<molecule>-scan-i-j-k-l`.

    From a minimum the scan goes once around upwards and once around downwards. Each point starts from the geometry
    of the one before; of the two geometries of an angle the lower stays. Where the calculator computes batches and the
    bond is in no ring, all angles are minimised side by side under a stiff restraint on the torsion: first each from
    the minimum with one side turned, then from the results of both its neighbours, until no energy falls any more.

    Attributes:
        calculator: gives energies and forces.
        spacing: of the grid [degree]; divides 360.
        dihedrals: torsions to scan, rows of four atom indices from 0, or a CSV file with columns `name`, `dihedral`;
            None takes every rotatable bond.
        bonds: SMARTS pattern of the bonds that count as rotatable.
        most: rotatable bonds that are scanned per molecule, chosen at random; None scans all of them.
        rounds: how often each angle starts from the results of its neighbours, at most, where all angles are
            minimised side by side.
        steps: of the optimiser at each point.
        convergence: criteria by geomeTRIC's name, where angles are minimised one by one.
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
    most: int | None = None
    rounds: int = 6

    def __post_init__(self) -> None:
        check_settings(self)
        grid(self.spacing)
        if self.most is not None and self.most < 1:
            raise ValueError(f"most={self.most}: expected a number of bonds per molecule, or null for all of them")

    @property
    def frames(self) -> int:
        """Points of a scan."""
        return 360 // self.spacing

    @property
    def driven(self) -> tuple[int, ...] | None:
        """The torsion, where one is given."""
        one = self.dihedrals is not None and not isinstance(self.dihedrals, str) and len(self.dihedrals) == 1
        return tuple(map(int, self.dihedrals[0])) if one and self.dihedrals else None

    def kind(self, number: int) -> str:
        """All geometries are points of a scan."""
        return "scan"

    def entries(self, molecule: Molecule) -> dict[str, Scan]:
        """A scan for each torsion of the molecule, or for `most` of them.

        Raises:
            ValueError: when it has none.
        """
        rows = chosen(molecule, self.dihedrals, self.bonds, sizes=(4,))
        if self.dihedrals is None and self.most is not None:
            drawn = np.random.default_rng(seed_of(molecule, self.seed)).permutation(len(rows))[: self.most]
            rows = [rows[i] for i in sorted(drawn)]
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
        sweep = self._sweep_batch if side_by_side(self.calculator, molecule, rows) else self._sweep
        points = sweep(molecule, start, rows[0])
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
                energy, relaxed = constrained(
                    self.calculator, molecule, xyz, {torsion: angle}, self.steps, self.convergence
                )
                if not intact(molecule, relaxed):
                    raise CalculatorError("bonds broken", f"{molecule.name}: bonds break or form at {angle}°")
            except CalculatorError as error:
                errors[angle] = error
                continue
            xyz = relaxed
            if angle not in best or energy < best[angle][0]:
                best[angle] = (energy, relaxed)
        for angle in angles:
            if angle not in best:
                raise errors[angle]
        return {angle: geometry for angle, (_, geometry) in best.items()}

    def _sweep_batch(self, molecule: Molecule, start: np.ndarray, torsion: tuple[int, ...]) -> dict[int, np.ndarray]:
        """The lowest geometry at each angle of the grid, all angles side by side."""
        angles = np.array(grid(self.spacing))
        relax = partial(restrained_batch, self.calculator, molecule, steps=self.steps, seed=self.seed)
        energies, points = relax(np.repeat(start[None], len(angles), axis=0), {torsion: angles})
        for _ in range(self.rounds):
            neighbours = np.concatenate([np.roll(points, shift, axis=0) for shift in (1, -1)])
            more, relaxed = relax(neighbours, {torsion: np.tile(angles, 2)})
            better = more.reshape(2, -1).argmin(0) * len(angles) + np.arange(len(angles))
            lower = more[better] < energies - 0.01
            energies[lower], points[lower] = more[better][lower], relaxed[better][lower]
            if not lower.any():
                break
        if not np.isfinite(energies).all():
            angle = angles[np.isinf(energies)][0]
            raise CalculatorError("bonds broken", f"{molecule.name}: bonds break or form at {angle}°")
        return {int(angle): point for angle, point in zip(angles, points, strict=True)}
