"""Conformers by distance geometry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from espalike.chem.molecule import Molecule
from espalike.qm.base import Calculator
from espalike.qm.sampling.base import OneEntry, minima, seed_of, stored


@dataclass(frozen=True)
class ETKDG(OneEntry):
    """Conformers by ETKDG, minimised and each kept once, or as they come.

    Attributes:
        calculator: what minimises them.
        frames: conformers per molecule, fewer where the minima are the same.
        minimise: steps of energy minimisation; 0 takes the conformers as ETKDG gives them.
        seed: of the embedding, together with the molecule's SMILES.
    """

    calculator: Calculator
    frames: int = 8
    minimise: int = 200
    seed: int = 0

    def kind(self, number: int) -> str:
        """Relaxed, unless conformers are taken as they come."""
        return "relaxed" if self.minimise else ""

    def __call__(self, molecule: Molecule, starts: np.ndarray | None = None) -> np.ndarray:
        """Geometries [Å], shape `(K, A, 3)`; see `Geometries`. Given starts are minimised instead of conformers."""
        if molecule.n_atoms == 1:
            return np.zeros((1, 1, 3))
        seed = seed_of(molecule, self.seed)
        return stored(minima(self.calculator, molecule, starts, self.frames, self.minimise, seed))
