"""What a calculator is: `(molecule, xyz) -> (energy, forces)` at a named level of theory, or more as a `Label`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from espalike.chem.molecule import Molecule
from espalike.units import magnitude


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
    """Energy, forces and other properties of one geometry at one level of theory.

    Attributes:
        energy: energy [kcal/mol].
        forces: −dE/dx [kcal/mol/Å], shape `(A, 3)`.
        dipole: dipole moment about the origin of the coordinates [e Å], shape `(3,)`, or None.
        esp_points: where the electrostatic potential was evaluated [Å], shape `(G, 3)`, or None.
        esp_values: the potential there [kcal/mol/e], shape `(G,)`, or None.
        disagreement: of an ensemble, the standard deviation of the members' force on each atom, root mean square over
            its components [kcal/mol/Å], shape `(A,)`; or None.
    """

    energy: float
    forces: np.ndarray
    dipole: np.ndarray | None = None
    esp_points: np.ndarray | None = None
    esp_values: np.ndarray | None = None
    disagreement: np.ndarray | None = None


class Calculator(Protocol):
    """Energy and forces of one geometry at one level of theory.

    A calculator that can give more has a method `label(molecule, xyz, esp=False) -> Label` and an attribute
    `properties`, a set of `dipole`, `esp` and `disagreement`; callers use `labelled`.

    A calculator that computes many geometries of a molecule faster at once has a method
    `batch(molecule, xyz) -> (energies, forces)` with `xyz` and forces of shape `(K, A, 3)`, energies of shape `(K,)`;
    callers use `batched`. If it can give more, it has `labels(molecule, xyz) -> list[Label]`; callers use
    `labelled_batch`.

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


class Kept:
    """What a calculator keeps for the next call on the same molecule, for instance a context of OpenMM.

    A call takes it out, so that calls in other threads do not share it: they find nothing, and make their own. Copies
    and pickles of a calculator begin without it.
    """

    def __init__(self) -> None:
        self._items: list[tuple[Molecule, Any]] = []

    def __reduce__(self) -> tuple[type[Kept], tuple[()]]:
        return Kept, ()

    def take(self, molecule: Molecule) -> Any:
        """What was put there for this molecule, which is then there no more; None if there is nothing for it."""
        try:
            owner, item = self._items.pop()  # one step, also where several threads call it
        except IndexError:
            return None
        return item if owner is molecule else None

    def put(self, molecule: Molecule, item: Any) -> None:
        """Keep something for a molecule, in the place of what was there."""
        self._items = [(molecule, item)]

    def clear(self) -> None:
        """Keep nothing."""
        self._items = []


def gives(calculator: Calculator, name: str) -> bool:
    """Whether a calculator's labels can hold a property: `dipole`, `esp` or `disagreement`."""
    return name in getattr(calculator, "properties", ())


def labelled(calculator: Calculator, molecule: Molecule, xyz: np.ndarray, esp: bool = False) -> Label:
    """All that a calculator gives for one geometry; energy and forces from any.

    Args:
        calculator: with or without a method `label`.
        molecule: the graph.
        xyz: coordinates [Å], shape `(A, 3)`.
        esp: whether the label shall hold the electrostatic potential.

    Raises:
        CalculatorError: when the calculation fails, `esp` is true and the calculator has no potential, or the result
            has another shape or is not finite.
    """
    if esp and not gives(calculator, "esp"):
        raise CalculatorError(
            "no potential", f"{molecule.name}: {calculator.level} gives no electrostatic potential; label with pyscf"
        )
    label = getattr(calculator, "label", None)
    with _naming(calculator, molecule):
        result = Label(*calculator(molecule, xyz)) if label is None else label(molecule, xyz, esp=esp)
        return _sound(calculator, molecule, result)


def in_batches(calculator: Calculator) -> bool:
    """Whether a calculator computes many geometries of a molecule at once."""
    return hasattr(calculator, "batch")


def batched(calculator: Calculator, molecule: Molecule, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energies [kcal/mol], shape `(K,)`, and forces [kcal/mol/Å], shape `(K, A, 3)`, at K geometries.

    Args:
        calculator: with or without a method `batch`; without one it is called for each geometry.
        molecule: the graph.
        xyz: coordinates [Å], shape `(K, A, 3)`.

    Raises:
        CalculatorError: when the calculation of any geometry fails, or gives arrays of another shape.
    """
    with _naming(calculator, molecule):
        if not in_batches(calculator):
            results = [_numbers(calculator, molecule, *calculator(molecule, one)) for one in xyz]
            energies = np.array([energy for energy, _ in results])
            return energies, np.array([forces for _, forces in results]).reshape(-1, molecule.n_atoms, 3)
        energies, forces = map(np.asarray, calculator.batch(molecule, xyz))  # type: ignore[attr-defined]
    if energies.shape != (len(xyz),) or forces.shape != np.shape(xyz):
        raise CalculatorError(
            "shape",
            f"{molecule.name}: {calculator.level} gave energies of shape {energies.shape} and forces of shape "
            f"{forces.shape}; expected ({len(xyz)},) and {np.shape(xyz)}",
        )
    return energies, forces


def _sound(calculator: Calculator, molecule: Molecule, label: Label) -> Label:
    """The label, if its energy is a finite number, and its forces are finite and of the molecule's shape.

    Raises:
        CalculatorError: when they are not.
    """
    energy, forces = _numbers(calculator, molecule, label.energy, label.forces)
    finite(molecule, calculator.level, energy, forces)
    return replace(label, energy=energy, forces=forces)


def _numbers(calculator: Calculator, molecule: Molecule, energy: float, forces: np.ndarray) -> tuple[float, np.ndarray]:
    """An energy as a float, and forces of shape `(A, 3)` in double precision.

    Raises:
        CalculatorError: when the energy is not one number, or the forces have another shape.
    """
    shapes, expected = (np.shape(energy), np.shape(forces)), ((), (molecule.n_atoms, 3))
    if shapes != expected:
        raise CalculatorError(
            "shape",
            f"{molecule.name}: {calculator.level} gave an energy of shape {shapes[0]} and forces of shape {shapes[1]}; "
            f"expected {expected[0]} and {expected[1]}",
        )
    return float(energy), np.asarray(forces, dtype=np.float64)


@contextmanager
def _naming(calculator: Calculator, molecule: Molecule) -> Iterator[None]:
    """Whatever a calculator raises about a molecule is a failure of this molecule, which the message names.

    Errors of the machine, such as a full disk, a missing package or too little memory, stay what they are.
    """
    try:
        yield
    except (CalculatorError, OSError, ImportError, MemoryError):
        raise
    except Exception as error:  # foreign calculators raise anything
        kind = type(error).__name__
        raise CalculatorError(kind, f"{molecule.name}: {calculator.level}: {kind}: {error}") from error


def labelled_batch(
    calculator: Calculator, molecule: Molecule, xyz: np.ndarray, esp: bool = False
) -> list[Label | CalculatorError]:
    """All that a calculator gives for each of K geometries, or why a geometry has no label.

    Where a batch fails, its geometries are computed one by one, so that only the bad ones fail.

    Args:
        calculator: with or without methods `batch` and `labels`.
        molecule: the graph.
        xyz: coordinates [Å], shape `(K, A, 3)`.
        esp: whether labels shall hold the electrostatic potential.
    """
    if in_batches(calculator) and not esp and len(xyz) > 1:
        try:
            if hasattr(calculator, "labels"):
                with _naming(calculator, molecule):
                    return [_sound(calculator, molecule, label) for label in calculator.labels(molecule, xyz)]
            pairs = zip(*batched(calculator, molecule, xyz), strict=True)
            return [_sound(calculator, molecule, Label(energy, forces)) for energy, forces in pairs]
        except CalculatorError:
            pass
    results: list[Label | CalculatorError] = []
    for one in xyz:
        try:
            results.append(labelled(calculator, molecule, one, esp))
        except CalculatorError as error:
            results.append(error)
    return results


def checked(molecule: Molecule, xyz: np.ndarray) -> np.ndarray:
    """`xyz`, numbers [Å] or a quantity, as a fresh float64 array of shape `(A, 3)` [Å].

    Raises:
        CalculatorError: when the shape does not fit the molecule, or a coordinate is not finite, complex or masked.
    """
    given = magnitude(xyz, "angstrom")
    if np.asarray(given).dtype.kind == "c" or np.ma.is_masked(given):
        raise CalculatorError("type", f"{molecule.name}: coordinates are complex or masked; expected real numbers")
    array = np.array(given, dtype=np.float64)
    if array.shape != (molecule.n_atoms, 3):
        raise CalculatorError(
            "shape",
            f"{molecule.name}: expected coordinates of shape ({molecule.n_atoms}, 3), got {array.shape}",
        )
    if not np.isfinite(array).all():
        raise CalculatorError("nan", f"{molecule.name}: coordinates are not all finite")
    return array


def checked_batch(molecule: Molecule, xyz: np.ndarray) -> np.ndarray:
    """`xyz` as a fresh float64 array of shape `(K, A, 3)` [Å]; errors as of `checked`."""
    return np.array([checked(molecule, one) for one in xyz]).reshape(-1, molecule.n_atoms, 3)


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

    The root mean square over atoms of `spread_per_atom`, so that it compares with a force RMSE.

    Args:
        forces: of each member [kcal/mol/Å], shape `(n, K, A, 3)`.

    Raises:
        ValueError: for fewer than two members.
    """
    return np.sqrt((spread_per_atom(forces) ** 2).mean(axis=1))


def spread_per_atom(forces: np.ndarray) -> np.ndarray:
    """How far the members of an ensemble lie apart on each atom [kcal/mol/Å], shape `(K, A)`.

    The standard deviation over the members (of a sample, n − 1) of each force component; its root mean square over the
    components.

    Args:
        forces: of each member [kcal/mol/Å], shape `(n, K, A, 3)`.

    Raises:
        ValueError: for fewer than two members.
    """
    if len(forces) < 2:
        raise ValueError(f"a disagreement needs two members or more, got {len(forces)}")
    return np.sqrt(forces.var(axis=0, ddof=1).mean(axis=2))


class Ensemble:
    """Mixin of calculators that compute each member of an ensemble: its methods follow from `members`.

    Attributes:
        level: see `Calculator`.
    """

    level: str

    def members(self, molecule: Molecule, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Energies [kcal/mol], shape `(n, K)`, and forces [kcal/mol/Å], shape `(n, K, A, 3)`, of each of n members.

        Args:
            molecule: the graph.
            xyz: geometries [Å], shape `(K, A, 3)`.

        Raises:
            CalculatorError: when the calculation fails, naming the molecule.
        """
        raise NotImplementedError

    def __call__(self, molecule: Molecule, xyz: np.ndarray) -> tuple[float, np.ndarray]:
        """Mean energy [kcal/mol] and forces [kcal/mol/Å], shape `(A, 3)`; see `Calculator`."""
        energies, forces = self.batch(molecule, checked(molecule, xyz)[None])
        return finite(molecule, self.level, energies[0], forces[0])

    def batch(self, molecule: Molecule, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean energies [kcal/mol], shape `(K,)`, and forces [kcal/mol/Å], shape `(K, A, 3)`; see `Calculator`."""
        energies, forces = self.members(molecule, xyz)
        return energies.mean(0), forces.mean(0)

    def label(self, molecule: Molecule, xyz: np.ndarray, esp: bool = False) -> Label:
        """Mean energy and forces, and the disagreement of two members or more; see `Calculator`."""
        return self.labels(molecule, checked(molecule, xyz)[None])[0]

    def labels(self, molecule: Molecule, xyz: np.ndarray) -> list[Label]:
        """Labels of K geometries [Å], shape `(K, A, 3)`; see `label`."""
        energies, forces = self.members(molecule, xyz)
        apart = spread_per_atom(forces) if len(forces) > 1 else [None] * len(xyz)
        return [
            Label(*finite(molecule, self.level, *mean), disagreement=one)
            for *mean, one in zip(energies.mean(0), forces.mean(0), apart, strict=True)
        ]

    def disagreement(self, molecule: Molecule, xyz: np.ndarray) -> np.ndarray:
        """How far the members' forces lie apart at each geometry [kcal/mol/Å], shape `(K,)`; see `spread`.

        Args:
            molecule: the graph.
            xyz: geometries [Å], shape `(K, A, 3)`.

        Raises:
            ValueError: for an ensemble of one.
            CalculatorError: see `members`.
        """
        return spread(self.members(molecule, xyz)[1])
