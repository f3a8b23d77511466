"""What a sampler is, and what all of them share: minima to start from, checks of bonds, geometries as stored."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import ClassVar, Protocol, Self

import numpy as np

from espalike.bounds import check_number
from espalike.chem import embed
from espalike.chem.bonds import intact
from espalike.chem.molecule import Molecule
from espalike.qm.base import Calculator, CalculatorError, in_batches
from espalike.qm.sampling.minimise import minimised, minimised_batch


class Geometries(Protocol):
    """What makes the geometries of a molecule that are to be labelled.

    Equal settings give equal geometries of a molecule, wherever and in whatever order molecules are done.

    Attributes:
        calculator: the cheap calculator that the geometries come from.
        frames: geometries of an entry, at most.
    """

    @property
    def calculator(self) -> Calculator:
        """What drives it."""
        ...

    @property
    def frames(self) -> int:
        """Geometries of an entry, at most."""
        ...

    @property
    def driven(self) -> tuple[int, ...] | None:
        """The four atoms of the torsion that an entry of this sampler scans, or None."""
        ...

    def kind(self, number: int) -> str:
        """What a geometry is, by its number: `relaxed`, `scan`, `thermal`, `distorted`, or empty."""
        ...

    def entries(self, molecule: Molecule) -> Mapping[str, Geometries]:
        """What it makes of a molecule: samplers by the suffix of their entry's name; most have one, without a suffix.

        Raises:
            ValueError: when there is nothing to make of this molecule.
        """
        ...

    def __call__(self, molecule: Molecule, starts: np.ndarray | None = None) -> np.ndarray:
        """Geometries [Å], shape `(K, A, 3)`, exactly representable in float32.

        Args:
            molecule: the graph.
            starts: geometries to start from [Å], shape `(S, A, 3)`; by default conformers by ETKDG.

        Raises:
            CalculatorError: when there are none, naming the molecule.
        """
        ...


_LEAST = {
    **dict.fromkeys(("frames", "starts", "pool", "rounds"), 1),
    **dict.fromkeys(("minimise", "steps", "seed", "equilibration", "friction", "bond", "angle", "least", "apart"), 0),
    **dict.fromkeys(("pull", "window", "floor"), 0),
}
_ABOVE_ZERO = ("temperature", "highest", "timestep", "interval", "hydrogen_mass", "step", "threshold")


def check_settings(sampler: object) -> None:
    """Check the numbers that samplers have in common.

    Raises:
        ValueError: naming a setting, what was expected and what was given.
    """
    for name, value in vars(sampler).items():
        if name in _LEAST:
            check_number(f"sampler.{name}", value, _LEAST[name])
        elif name in _ABOVE_ZERO:
            check_number(f"sampler.{name}", value, 0)
            if value == 0:
                raise ValueError(f"sampler.{name}={value}: expected a number above 0")


class OneEntry:
    """Mixin of samplers whose geometries of a molecule are one entry."""

    driven: None = None
    all_are: ClassVar[str] = ""
    """Kind of all geometries."""

    def __post_init__(self) -> None:
        check_settings(self)

    def kind(self, number: int) -> str:
        """What a geometry is, by its number; see `Geometries`."""
        return self.all_are

    def entries(self, molecule: Molecule) -> dict[str, Self]:
        """Itself, without a suffix."""
        return {"": self}


def seed_of(molecule: Molecule, seed: int) -> int:
    """A seed of the molecule's own, so that its geometries do not depend on what else is sampled."""
    return zlib.crc32(molecule.smiles.encode()) + seed


def stored(geometries) -> np.ndarray:
    """Geometries as a store keeps them, in float32, but of type float64: labels belong to exactly these."""
    return np.array(geometries, dtype=np.float32).astype(np.float64)


def minima(
    calculator: Calculator, molecule: Molecule, starts: np.ndarray | None, count: int, steps: int, seed: int
) -> list[np.ndarray]:
    """At most `count` different geometries [Å] `(A, 3)` near minima.

    Args:
        calculator: gives energies and forces.
        molecule: the graph.
        starts: geometries to start from [Å], shape `(S, A, 3)`, taken evenly; None embeds the molecule.
        count: number of starts that are taken.
        steps: of minimisation; 0 takes the starts as they are.
        seed: of the embedding.

    Raises:
        CalculatorError: when the calculator fails, or every geometry has lost its bonds.
    """
    if starts is None:
        starts = embed(molecule, count, seed=seed % 2**31)
    points = starts[np.unique(np.linspace(0, len(starts) - 1, count).round().astype(int))]
    if steps and in_batches(calculator):
        points = minimised_batch(calculator, molecule, points, steps)
    elif steps:
        points = np.array([minimised(calculator, molecule, point, steps) for point in points])
    kept = [point for point in points if intact(molecule, point)]
    if not kept:
        raise CalculatorError("bonds broken", f"{molecule.name}: no starting geometry has its bonds")
    return distinct(kept) if steps else kept


def masses(molecule: Molecule, hydrogen_mass: float = 1.008) -> np.ndarray:
    """Atomic masses [dalton], shape `(A,)`."""
    from rdkit import Chem

    table = Chem.GetPeriodicTable()
    return np.array([hydrogen_mass if z == 1 else table.GetAtomicWeight(int(z)) for z in molecule.numbers])


def distinct(points: list[np.ndarray]) -> list[np.ndarray]:
    """The points whose sorted interatomic distances differ from all earlier ones by more than 0.05 Å somewhere."""
    kept: list[np.ndarray] = []
    seen: list[np.ndarray] = []
    for point in points:
        distances = np.sort(np.linalg.norm(point[:, None] - point[None, :], axis=-1), axis=None)
        if all(np.abs(distances - other).max() > 0.05 for other in seen):
            kept.append(point)
            seen.append(distances)
    return kept
