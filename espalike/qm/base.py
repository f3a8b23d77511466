"""What a calculator is: `(molecule, xyz) -> (energy, forces)` at a named level of theory, or more as a `Label`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from espalike.chem.molecule import Molecule


class CalculatorError(RuntimeError):
    """A calculation failed; the message names the molecule and what went wrong.

    Attributes:
        reason: a word or two that groups failures of one sort when they are counted.
    """

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, eq=False)
class Label:
    """What a level of theory says about one geometry.

    Attributes:
        energy: [kcal/mol].
        forces: −dE/dx [kcal/mol/Å], shape `(A, 3)`.
        dipole: dipole moment about the origin of the coordinates [e Å], shape `(3,)`, or None.
        esp_points: where the electrostatic potential was evaluated [Å], shape `(G, 3)`, or None.
        esp_values: the potential there [kcal/mol/e], shape `(G,)`, or None.
    """

    energy: float
    forces: np.ndarray
    dipole: np.ndarray | None = None
    esp_points: np.ndarray | None = None
    esp_values: np.ndarray | None = None


class Calculator(Protocol):
    """Energy and forces of one geometry at one level of theory.

    A calculator that can give more has a method `label(molecule, xyz, esp=False) -> Label` and an attribute
    `properties`, a set of `dipole` and `esp`; callers use `labelled`.

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


def gives(calculator: Calculator, name: str) -> bool:
    """Whether a calculator's labels can hold a property, `dipole` or `esp`."""
    return name in getattr(calculator, "properties", ())


def labelled(calculator: Calculator, molecule: Molecule, xyz: np.ndarray, esp: bool = False) -> Label:
    """All that a calculator gives for one geometry; energy and forces from any.

    Args:
        calculator: with or without a method `label`.
        molecule: the graph.
        xyz: coordinates [Å], shape `(A, 3)`.
        esp: whether the electrostatic potential is wanted; it is left out where it is not.

    Raises:
        CalculatorError: when the calculation fails, or the potential is wanted of a calculator that has none.
    """
    if esp and not gives(calculator, "esp"):
        raise CalculatorError(
            "no potential", f"{molecule.name}: {calculator.level} gives no electrostatic potential; label with pyscf"
        )
    label = getattr(calculator, "label", None)
    return Label(*calculator(molecule, xyz)) if label is None else label(molecule, xyz, esp=esp)


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


def spread(forces: np.ndarray) -> np.ndarray:
    """How far the members of an ensemble lie apart at each geometry [kcal/mol/Å], shape `(K,)`.

    The standard deviation over the members (of a sample, n − 1) of each force component; its root mean square over
    atoms and components, so that it compares with a force RMSE.

    Args:
        forces: of each member [kcal/mol/Å], shape `(n, K, A, 3)`.

    Raises:
        ValueError: for fewer than two members.
    """
    if len(forces) < 2:
        raise ValueError(f"a disagreement needs two members or more, got {len(forces)}")
    return np.sqrt(forces.var(axis=0, ddof=1).mean(axis=(1, 2)))
