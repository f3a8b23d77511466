"""Torsion scans by wavefront propagation, in one and two dimensions (the package torsiondrive)."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np

from espalike.chem.bonds import intact
from espalike.chem.molecule import Molecule
from espalike.qm.base import Calculator, CalculatorError
from espalike.qm.sampling.base import check_settings, minima, seed_of, stored
from espalike.qm.sampling.constrained import constrained
from espalike.qm.sampling.restrained import restrained_batch, side_by_side
from espalike.qm.sampling.torsions import ROTATABLE, Dihedrals, chosen, grid, suffix
from espalike.units import HARTREE


@dataclass(frozen=True)
class Wavefront:
    """TorsionDrive: every new lowest geometry of a grid point starts its neighbours again, until nothing improves.

    Y. Qiu et al., J. Chem. Phys. 152 (2020) 244116. It costs several times as much as `Scan` and does not depend on
    the direction. Every torsion, or pair of torsions, is a separate entry, called `<molecule>-wavefront-i-j-k-l…`.
    Where the calculator computes batches and no driven bond is in a ring, all points that are due at the same time are
    minimised side by side, under stiff restraints on the torsions.

    Attributes:
        calculator: gives energies and forces.
        spacing: of the grid [degree]; divides 360.
        dihedrals: rows of four atom indices from 0, or of eight for two torsions at once; or a CSV file with columns
            `name`, `dihedral`; None takes every rotatable bond, in two dimensions every two that share an atom.
        dimensions: 1 or 2, where `dihedrals` is None.
        bonds: SMARTS pattern of the bonds that count as rotatable.
        starts: conformers it starts from.
        threshold: how much lower [kcal/mol] a geometry must be to start its neighbours again.
        steps: of the optimiser at each point.
        convergence: criteria by geomeTRIC's name, where points are minimised one by one.
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
        check_settings(self)
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
        """The driven torsion; None for two at once."""
        one = self.dihedrals is not None and not isinstance(self.dihedrals, str) and len(self.dihedrals) == 1
        return tuple(map(int, self.dihedrals[0])) if one and self.dihedrals and len(self.dihedrals[0]) == 4 else None

    def kind(self, number: int) -> str:
        """All geometries are points of a scan."""
        return "scan"

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
        if len(rows) != 1:
            raise ValueError(f"{molecule.name}: {len(rows)} scans; expected one, take `entries`")
        points = minima(self.calculator, molecule, starts, self.starts, self.minimise, seed_of(molecule, self.seed))
        torsions = [rows[0][i : i + 4] for i in range(0, len(rows[0]), 4)]
        best = self._propagate(molecule, torsions, points)
        expected = (360 // self.spacing) ** len(torsions)
        if len(best) < expected:
            raise CalculatorError(
                "not minimised", f"{molecule.name}: {expected - len(best)} of {expected} grid points have no geometry"
            )
        return stored([best[key] for key in sorted(best)])

    def _propagate(
        self, molecule: Molecule, torsions: list[tuple[int, ...]], points: list[np.ndarray]
    ) -> dict[tuple[int, ...], np.ndarray]:
        """The lowest geometry at each grid point, by the angles [degree]."""
        from rdkit import Chem
        from torsiondrive.td_api import get_next_jobs

        table = Chem.GetPeriodicTable()
        done: dict[tuple[int, ...], list[_Point]] = {}
        state = {
            "dihedrals": torsions,
            "grid_spacing": [self.spacing] * len(torsions),
            "elements": [table.GetElementSymbol(int(z)) for z in molecule.numbers],
            "init_coords": points,
            "energy_decrease_thresh": self.threshold / HARTREE,
            "grid_status": done,
        }
        together = side_by_side(self.calculator, molecule, torsions)
        while jobs := _quietly(get_next_jobs, state):
            due = [(key, start) for key, starts in jobs.items() for start in starts]
            angles = [dict(zip(torsions, map(int, key), strict=True)) for key, _ in due]
            starts = [start for _, start in due]
            ends = (
                self._points(molecule, starts, angles)
                if together
                else map(partial(self._point, molecule), starts, angles)
            )
            for (key, _), point in zip(due, ends, strict=True):
                done.setdefault(key, []).append(point)
        reached = {key: [point for point in of if point[2] < _FAILED] for key, of in done.items()}
        return {key: min(of, key=lambda point: point[2])[1] for key, of in reached.items() if of}

    def _point(self, molecule: Molecule, start: np.ndarray, targets: dict[tuple[int, ...], int]) -> _Point:
        """One constrained minimisation as torsiondrive takes it; it passes over ends that are far from the target."""
        try:
            energy, end = constrained(self.calculator, molecule, start, targets, self.steps, self.convergence)
        except CalculatorError:
            return start, start, _FAILED
        return (start, end, energy / HARTREE) if intact(molecule, end) else (start, start, _FAILED)

    def _points(
        self, molecule: Molecule, starts: list[np.ndarray], targets: list[dict[tuple[int, ...], int]]
    ) -> list[_Point]:
        """The same for many points at once, side by side."""
        angles = {torsion: np.array([of[torsion] for of in targets]) for torsion in targets[0]}
        energies, ends = restrained_batch(
            self.calculator, molecule, np.array(starts), angles, steps=self.steps, seed=self.seed
        )
        return [
            (start, end, energy / HARTREE) if np.isfinite(energy) else (start, start, _FAILED)
            for start, end, energy in zip(starts, ends, energies.tolist(), strict=True)
        ]


_Point = tuple[np.ndarray, np.ndarray, float]
"""Start and end of a minimisation [Å] and its energy [hartree]."""
_FAILED = 1e6
"""Energy [hartree] of a point that was not reached."""


def _quietly(function, *arguments):
    """The function's value; the progress that torsiondrive prints is discarded."""
    with contextlib.redirect_stdout(io.StringIO()):
        return function(*arguments)
