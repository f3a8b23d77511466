"""Torsion scans by wavefront propagation, in one and two dimensions (the package torsiondrive)."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from espalike.qm.base import Calculator, CalculatorError
from espalike.qm.sampling.base import intact, minima, seed_of, stored
from espalike.qm.sampling.constrained import constrained, on_target, turned
from espalike.qm.sampling.torsions import ROTATABLE, Dihedrals, chosen, grid, suffix
from espalike.types import Molecule
from espalike.units import BOHR, HARTREE


@dataclass(frozen=True)
class Wavefront:
    """TorsionDrive: every new lowest geometry of a grid point starts its neighbours again, until nothing improves.

    Y. Qiu et al., J. Chem. Phys. 152 (2020) 244116. It costs several times as much as `Scan` and does not depend on
    the direction. Every torsion, or pair of torsions, is an entry of its own, called `<molecule>-wavefront-i-j-k-l…`.

    Attributes:
        calculator: what is minimised.
        spacing: of the grid [degree]; divides 360.
        dihedrals: rows of four atom indices from 0, or of eight for two torsions at once; or a CSV file with columns
            `name`, `dihedral`; None takes every rotatable bond, in two dimensions every two that share an atom.
        dimensions: 1 or 2, where `dihedrals` is None.
        bonds: SMARTS pattern of the bonds that count as rotatable.
        starts: conformers it starts from.
        threshold: how much lower [kcal/mol] a geometry must be to start its neighbours again.
        steps: of the optimiser at each point.
        convergence: criteria by geomeTRIC's name.
        minimise: steps of energy minimisation of each start.
        seed: of the embedding, together with the molecule's SMILES.
    """

    calculator: Calculator
    spacing: int = 15
    dihedrals: Dihedrals = None
    dimensions: int = 1
    bonds: str = ROTATABLE
    starts: int = 2
    threshold: float = 0.01
    steps: int = 200
    convergence: str = "GAU"
    minimise: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        grid(self.spacing)
        if self.dimensions not in (1, 2):
            raise ValueError(f"dimensions={self.dimensions}: expected 1 or 2")

    @property
    def frames(self) -> int:
        """Points of a grid, at most."""
        given = self.dihedrals if self.dihedrals is not None and not isinstance(self.dihedrals, str) else ()
        sizes = [len(row) // 4 for row in given] or [2 if isinstance(self.dihedrals, str) else self.dimensions]
        return (360 // self.spacing) ** max(sizes)

    @property
    def driven(self) -> tuple[int, ...] | None:
        """The torsion, where one is given; of two at once there is no single one."""
        one = self.dihedrals is not None and not isinstance(self.dihedrals, str) and len(self.dihedrals) == 1
        return tuple(map(int, self.dihedrals[0])) if one and self.dihedrals and len(self.dihedrals[0]) == 4 else None

    def entries(self, molecule: Molecule) -> dict[str, Wavefront]:
        """A scan for each torsion, or pair of torsions, of the molecule.

        Raises:
            ValueError: when it has none.
        """
        rows = self._rows(molecule)
        return {suffix("wavefront", row): dataclasses.replace(self, dihedrals=(row,)) for row in rows}

    def _rows(self, molecule: Molecule) -> list[tuple[int, ...]]:
        rows = chosen(molecule, self.dihedrals, self.bonds, sizes=(4, 8))
        if self.dihedrals is not None or self.dimensions == 1:
            return rows
        pairs = [a + b for a, b in combinations(rows, 2) if {*a[1:3]} & {*b[1:3]}]
        if not pairs:
            raise ValueError(f"{molecule.name}: no two rotatable bonds that share an atom; set dimensions=1")
        return pairs

    def __call__(self, molecule: Molecule, starts: np.ndarray | None = None) -> np.ndarray:
        """Geometries [Å], shape `(K, A, 3)`, in ascending order of their angles; see `Geometries`.

        Raises:
            CalculatorError: when a grid point has no geometry.
            ValueError: when the molecule has several torsions to scan; `entries` gives one each.
        """
        rows = self._rows(molecule)
        if len(rows) > 1:
            raise ValueError(f"{molecule.name}: {len(rows)} scans; expected one, take `entries`")
        points = minima(self.calculator, molecule, starts, self.starts, self.minimise, seed_of(molecule, self.seed))
        torsions = [rows[0][i : i + 4] for i in range(0, len(rows[0]), 4)]
        best = self._propagate(molecule, torsions, points)
        wanted = (360 // self.spacing) ** len(torsions)
        if len(best) < wanted:
            raise CalculatorError(
                "not minimised", f"{molecule.name}: {wanted - len(best)} of {wanted} grid points have no geometry"
            )
        return stored([best[key] for key in sorted(best)])

    def _propagate(
        self, molecule: Molecule, torsions: list[tuple[int, ...]], points: list[np.ndarray]
    ) -> dict[tuple[int, ...], np.ndarray]:
        """The lowest geometry at each grid point, by the angles [degree]."""
        from rdkit import Chem
        from torsiondrive import td_api

        table = Chem.GetPeriodicTable()
        state = td_api.create_initial_state(
            dihedrals=torsions,
            grid_spacing=[self.spacing] * len(torsions),
            elements=[table.GetElementSymbol(int(z)) for z in molecule.numbers],
            init_coords=[(point / BOHR).ravel() for point in points],
            energy_decrease_thresh=self.threshold / HARTREE,
        )
        while jobs := _quietly(td_api.next_jobs_from_state, state):
            results = {}
            for key, starts in jobs.items():
                targets = {torsion: int(angle) for torsion, angle in zip(torsions, key.split(","), strict=True)}
                results[key] = [self._point(molecule, np.array(start), targets) for start in starts]
            td_api.update_state(state, results)
        found: dict[tuple[int, ...], tuple[float, np.ndarray]] = {}
        for key, done in state["grid_status"].items():
            angles = tuple(int(angle) for angle in key.split(","))
            for _, end, energy in done:
                if energy < found.get(angles, (_FAILED, None))[0]:
                    found[angles] = (energy, np.array(end).reshape(-1, 3) * BOHR)
        return {key: geometry for key, (_, geometry) in found.items()}

    def _point(self, molecule: Molecule, start: np.ndarray, targets: dict[tuple[int, ...], int]):
        """Start, end [bohr] and energy [hartree] of one constrained minimisation, as torsiondrive takes them."""
        begin = start.reshape(-1, 3) * BOHR
        try:
            energy, end = constrained(self.calculator, molecule, begin, targets, self.steps, self.convergence)
            if intact(molecule, end):
                return start, (end / BOHR).ravel(), energy / HARTREE
            error = CalculatorError("bonds broken", f"{molecule.name}: bonds break or form at {targets}")
        except CalculatorError as caught:
            error = caught
        # torsiondrive has no failed points: one far above all others is replaced by whatever comes after it
        end = turned(molecule, begin, targets)
        if not on_target(end, targets):
            raise error
        return start, (end / BOHR).ravel(), _FAILED


_FAILED = 1e6
"""Energy [hartree] of a point that was not reached."""


def _quietly(function, *arguments):
    """The function's value; torsiondrive prints its progress, which is no output of ours."""
    with contextlib.redirect_stdout(io.StringIO()):
        return function(*arguments)
