"""What is scored: anything that gives the energies and forces of a record's conformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from espalike.chem.molecule import Molecule
from espalike.data.schema import Record
from espalike.energy import energy
from espalike.qm.base import Calculator, batched
from espalike.system import MMSystem

Predictor = Callable[[Record], tuple[np.ndarray, np.ndarray]]
"""`record -> energies [kcal/mol] (K,), forces [kcal/mol/Å] (K, A, 3)`; raises an error if it has no result."""

Assigner = Callable[[Sequence[Molecule]], MMSystem]
"""Anything that turns molecules into parameters: a trained model's `parametrize`, OpenFF."""


@dataclass(frozen=True)
class ForceField:
    """Predictor of a force field: parameters once per record, then all its conformers at once in float64.

    Attributes:
        assign: gives the parameters.
    """

    assign: Assigner

    def system(self, record: Record) -> MMSystem:
        """The record's molecule, parametrized."""
        with torch.no_grad():
            return self.assign([record.molecule]).to(dtype=torch.float64)

    def __call__(self, record: Record) -> tuple[np.ndarray, np.ndarray]:
        """Energies [kcal/mol] `(K,)` and forces [kcal/mol/Å] `(K, A, 3)` of the record's conformers."""
        prediction = energy(self.system(record), torch.from_numpy(np.array(record.conformers.xyz, np.float64)))
        assert prediction.forces is not None
        return prediction.energy[:, 0].numpy(), prediction.forces.numpy()


def from_calculator(calculator: Calculator) -> Predictor:
    """Predictor of a calculator: all conformers at once if it has a method `batch`, else one after the other."""
    return lambda record: batched(calculator, record.molecule, np.array(record.conformers.xyz, np.float64))


def zero(record: Record) -> tuple[np.ndarray, np.ndarray]:
    """One energy for all conformers and no forces: every method should do better."""
    return np.zeros(len(record.conformers.xyz)), np.zeros(record.conformers.xyz.shape)
