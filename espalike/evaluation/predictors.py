"""What is scored: anything that gives the energies and forces of a record's conformers."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from espalike.chem.molecule import Molecule
from espalike.data.schema import Record
from espalike.energy import energy
from espalike.qm.base import Calculator
from espalike.system import MMSystem

Predictor = Callable[[Record], tuple[np.ndarray, np.ndarray]]
"""`record -> energies [kcal/mol] (K,), forces [kcal/mol/Å] (K, A, 3)`; raises where it cannot."""

Assigner = Callable[[Sequence[Molecule]], MMSystem]
"""Anything that turns molecules into parameters: a trained model's `parametrize`, OpenFF."""


@dataclass(frozen=True)
class ForceField:
    """Predictor of a force field: parameters once a record, then all its conformers at once in float64.

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


def from_assigner(assign: Assigner) -> Predictor:
    """Predictor of a force field."""
    return ForceField(assign)


def from_calculator(calculator: Calculator) -> Predictor:
    """Predictor of a calculator: one calculation a conformer."""

    def predict(record: Record) -> tuple[np.ndarray, np.ndarray]:
        results = [calculator(record.molecule, xyz) for xyz in record.conformers.xyz]
        return np.array([e for e, _ in results]), np.stack([f for _, f in results])

    return predict


def zero(record: Record) -> tuple[np.ndarray, np.ndarray]:
    """Predicts nothing: one energy for all conformers and no force. What any method has to beat."""
    return np.zeros(len(record.conformers.xyz)), np.zeros(record.conformers.xyz.shape)


def _openff() -> Predictor:
    from espalike.assigners.openff import OpenFFAssigner

    return from_assigner(OpenFFAssigner("openff_unconstrained-2.2.1.offxml"))


def _mmff94() -> Predictor:
    from espalike.qm.mmff import MMFFCalculator

    return from_calculator(MMFFCalculator())


def _gfn2() -> Predictor:
    import tblite.interface  # noqa: F401 - so that a missing extra is told once, not as a failure of every molecule

    from espalike.qm.xtb import XTBCalculator

    return from_calculator(XTBCalculator("GFN2-xTB"))


BASELINES: dict[str, Callable[[], Predictor]] = {
    "openff-2.2.1": _openff,
    "mmff94": _mmff94,
    "gfn2-xtb": _gfn2,
    "zero": lambda: zero,
}
"""Baselines by the name users type; each is built, with its imports, when asked for."""


def baseline(name: str) -> Predictor:
    """The predictor of a baseline.

    Raises:
        ValueError: for an unknown name, listing the known ones.
    """
    if name not in BASELINES:
        close = difflib.get_close_matches(name, BASELINES, n=1)
        guess = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"no baseline {name!r}; {guess}baselines: {', '.join(BASELINES)}")
    return BASELINES[name]()
