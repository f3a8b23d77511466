"""What a calculator is: `(molecule, xyz) -> (energy, forces)` at a named level of theory."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from espalike.types import Molecule


class CalculatorError(RuntimeError):
    """A calculation failed; the message names the molecule and what went wrong.

    Attributes:
        reason: a word or two that groups failures of one sort when they are counted.
    """

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


class Calculator(Protocol):
    """Energy and forces of one geometry at one level of theory.

    Attributes:
        level: the level of theory as it is written into stores, e.g. `B3LYP-D3BJ/DZVP`.
        program: name and version of what computes it, for manifests.
    """

    level: str
    program: str

    def __call__(self, molecule: Molecule, xyz: np.ndarray) -> tuple[float, np.ndarray]:
        """Energy [kcal/mol] and forces [kcal/mol/Å], shape `(A, 3)`, at `xyz` [Å], shape `(A, 3)`.

        Raises:
            CalculatorError: when the calculation fails, naming the molecule.
        """
        ...


def checked(molecule: Molecule, xyz: np.ndarray) -> np.ndarray:
    """`xyz` as a fresh float64 array of shape `(A, 3)` [Å].

    Raises:
        CalculatorError: when the shape does not fit the molecule or a coordinate is not finite.
    """
    array = np.array(xyz, dtype=np.float64)
    if array.shape != (molecule.n_atoms, 3):
        raise CalculatorError(
            "shape",
            f"{molecule.name}: expected coordinates of shape ({molecule.n_atoms}, 3), got {array.shape}",
        )
    if not np.isfinite(array).all():
        raise CalculatorError("nan", f"{molecule.name}: coordinates are not all finite")
    return array


def finite(molecule: Molecule, level: str, energy: float, forces: np.ndarray) -> tuple[float, np.ndarray]:
    """The result as it came, when all of it is finite.

    Raises:
        CalculatorError: when energy or forces are NaN or infinite.
    """
    if not (np.isfinite(energy) and np.isfinite(forces).all()):
        raise CalculatorError("nan", f"{molecule.name}: {level} gave an energy or forces that are not finite")
    return float(energy), forces
