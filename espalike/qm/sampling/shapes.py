"""Folded and extended conformers: minima from the most compact to the most extended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from espalike.chem import embed
from espalike.chem.bonds import intact
from espalike.chem.molecule import Molecule
from espalike.qm.base import Calculator, CalculatorError, batched
from espalike.qm.sampling.base import OneEntry, distinct, seed_of, stored
from espalike.qm.sampling.minimise import minimised_batch

_STIFFNESS = 4.0
"""Stiffness of the pull on the radius of gyration [kcal/mol/Å²] per atom."""


@dataclass(frozen=True)
class Shapes(OneEntry):
    """Conformers spread evenly over the radius of gyration, the most compact and the most extended among them.

    Two thirds of a pool of conformers are first minimised under a pull towards a smaller or a larger radius of
    gyration, so that contacts within the molecule form or open; then all of them are minimised freely.

    Attributes:
        calculator: gives energies and forces; best one that computes batches.
        frames: conformers per molecule, fewer if there are fewer minima.
        pool: conformers per molecule from which they are chosen.
        pull: largest relative change of the radius of gyration.
        window: energy above the lowest conformer [kcal/mol] beyond which a conformer is left out.
        minimise: evaluations in each of the two minimisations, at most.
        seed: of the embedding, together with the molecule's SMILES.
    """

    all_are: ClassVar[str] = "relaxed"

    calculator: Calculator
    frames: int = 8
    pool: int = 30
    pull: float = 0.4
    window: float = 25.0
    minimise: int = 200
    seed: int = 0

    def __call__(self, molecule: Molecule, starts: np.ndarray | None = None) -> np.ndarray:
        """Geometries [Å], shape `(K, A, 3)`, by growing radius of gyration; see `Geometries`.

        Given starts are the pool; their number replaces `pool`.
        """
        if molecule.n_atoms == 1:
            return np.zeros((1, 1, 3))
        seed = seed_of(molecule, self.seed)
        pool = embed(molecule, self.pool, seed=seed % 2**31) if starts is None else np.array(starts)
        pulled = minimised_batch(self.calculator, molecule, pool, self.minimise, self._bias(pool))
        free = minimised_batch(self.calculator, molecule, pulled, self.minimise)
        kept = [point for point in free if intact(molecule, point)]
        if not kept:
            raise CalculatorError("bonds broken", f"{molecule.name}: no conformer keeps its bonds")
        points = np.array(distinct(kept))
        energies = batched(self.calculator, molecule, points)[0]
        points = points[energies <= energies.min() + self.window]
        points = points[np.argsort(gyration(points), kind="stable")]
        return stored(points[np.unique(np.linspace(0, len(points) - 1, self.frames).round().astype(int))])

    def _bias(self, pool: np.ndarray):
        """A harmonic pull to targets of a third below, a third around and a third above the radii of the pool."""
        target = gyration(pool) * (1 + self.pull * np.linspace(-1, 1, len(pool)))
        strength = np.where(np.abs(np.linspace(-1, 1, len(pool))) > 1 / 3, _STIFFNESS * pool.shape[1], 0.0)

        def bias(xyz: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            radius = gyration(xyz)
            miss, stiffness = radius - target[numbers], strength[numbers]
            slope = (xyz - xyz.mean(1, keepdims=True)) / (xyz.shape[1] * radius)[:, None, None]
            return 0.5 * stiffness * miss**2, -(stiffness * miss)[:, None, None] * slope

        return bias


def gyration(xyz: np.ndarray) -> np.ndarray:
    """Radius of gyration [Å], every atom weighing the same, of geometries [Å] `(K, A, 3)`, shape `(K,)`."""
    return np.sqrt(((xyz - xyz.mean(1, keepdims=True)) ** 2).sum(2).mean(1))
