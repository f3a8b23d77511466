"""Active learning: of many thermal geometries, those where an ensemble of models disagrees most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from scipy.spatial.transform import Rotation

from espalike.chem.molecule import Molecule
from espalike.qm.base import Calculator
from espalike.qm.sampling.base import OneEntry, stored
from espalike.qm.sampling.thermal import Thermal


class Committee(Calculator, Protocol):
    """Several models of which one mean is made, `espalike.qm.models.EnsembleCalculator` for instance."""

    def disagreement(self, molecule: Molecule, xyz: np.ndarray) -> np.ndarray:
        """How far the models lie apart [kcal/mol/Å] at geometries [Å] `(K, A, 3)`, shape `(K,)`."""
        ...


@dataclass(frozen=True)
class Disagreement(OneEntry):
    """Geometries of hot dynamics on a committee's mean, those of the largest disagreement of its members first.

    A geometry too near one that is taken already is passed over: its label would teach the same again.

    Attributes:
        calculator: the committee: it drives the dynamics and says how far its members lie apart.
        frames: geometries kept per molecule, at most.
        pool: geometries per molecule that they are chosen from.
        least: smallest disagreement [kcal/mol/Å] of a geometry worth a label.
        apart: smallest root-mean-square distance [Å] of any two kept, after superposition.
        temperature: of the dynamics [K].
        interval: time between geometries of the pool [fs].
        starts: trajectories per molecule.
        seed: of the random numbers, together with the molecule's SMILES.
    """

    all_are: ClassVar[str] = "thermal"

    calculator: Committee
    frames: int = 4
    pool: int = 60
    least: float = 0.0
    apart: float = 0.1
    temperature: float = 700.0
    interval: float = 30.0
    starts: int = 3
    seed: int = 0

    def __call__(self, molecule: Molecule, starts: np.ndarray | None = None) -> np.ndarray:
        """Geometries [Å], shape `(K, A, 3)`, K ≤ `frames`, of descending disagreement; see `Geometries`."""
        if molecule.n_atoms == 1:  # no force to disagree on
            return np.zeros((0, 1, 3))
        pool = self.candidates(molecule, starts)
        far = self.calculator.disagreement(molecule, pool)
        kept: list[np.ndarray] = []
        for i in np.argsort(-far, kind="stable"):
            if len(kept) == self.frames or not far[i] >= self.least:
                break
            if all(_rmsd(pool[i], other) >= self.apart for other in kept):
                kept.append(pool[i])
        return stored(kept).reshape(-1, molecule.n_atoms, 3)

    def candidates(self, molecule: Molecule, starts: np.ndarray | None = None) -> np.ndarray:
        """The pool [Å], shape `(pool, A, 3)`."""
        sampler = Thermal(
            self.calculator,
            frames=self.pool,
            temperature=self.temperature,
            interval=self.interval,
            starts=self.starts,
            seed=self.seed,
        )
        return sampler(molecule, starts)


def _rmsd(a: np.ndarray, b: np.ndarray) -> float:
    """Root-mean-square distance [Å] of the atoms of two geometries `(A, 3)`, superposed."""
    a, b = a - a.mean(0), b - b.mean(0)
    return Rotation.align_vectors(a, b)[1] / np.sqrt(len(a))
