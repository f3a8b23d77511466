"""What a sampler is, and what all of them share: minima to start from, checks of bonds, geometries as stored."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Protocol, Self

import numpy as np
from scipy.optimize import minimize

from espalike.chem import embed
from espalike.chem.bonds import intact
from espalike.chem.molecule import Molecule
from espalike.qm.base import Calculator, CalculatorError


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


class OneEntry:
    """Mixin of samplers whose geometries of a molecule are one entry."""

    driven: None = None

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
        calculator: what is minimised.
        molecule: the graph.
        starts: geometries to start from [Å], shape `(S, A, 3)`, taken evenly; None embeds the molecule.
        count: starts that are taken.
        steps: of minimisation; 0 takes the starts as they are.
        seed: of the embedding.

    Raises:
        CalculatorError: when the calculator fails or a geometry has lost its bonds.
    """
    if starts is None:
        starts = embed(molecule, count, seed=seed % 2**31)
    chosen = np.unique(np.linspace(0, len(starts) - 1, count).round().astype(int))
    points = [_minimum(calculator, molecule, starts[i], steps) for i in chosen]
    return distinct(points) if steps else points


def _minimum(calculator: Calculator, molecule: Molecule, xyz: np.ndarray, steps: int) -> np.ndarray:
    point = minimised(calculator, molecule, xyz, steps) if steps else np.array(xyz)
    if not intact(molecule, point):
        raise CalculatorError("bonds broken", f"{molecule.name}: the starting geometry does not have its bonds")
    return point


def minimised(calculator: Calculator, molecule: Molecule, xyz: np.ndarray, steps: int = 200) -> np.ndarray:
    """Geometry [Å] `(A, 3)` after at most `steps` steps of L-BFGS from `xyz`, to 0.1 kcal/mol/Å.

    Where a long step of the line search leads to a geometry that the calculator cannot do, the search begins again in
    boxes of ±0.1 Å, ten of them at most.

    Raises:
        CalculatorError: when that fails too.
    """

    def objective(flat: np.ndarray):
        energy, forces = calculator(molecule, flat.reshape(-1, 3))
        return energy, -forces.ravel()

    def search(start: np.ndarray, box: float) -> np.ndarray:
        bounds = np.stack([start - box, start + box], axis=1)
        options = {"maxiter": steps, "gtol": 0.1, "maxls": 30}
        return minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x

    point = np.ravel(xyz).astype(np.float64)
    try:
        return search(point, np.inf).reshape(-1, 3)
    except CalculatorError:
        for _ in range(10):
            before, point = point, search(point, 0.1)
            if np.abs(point - before).max() < 0.099:
                break
    return point.reshape(-1, 3)


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
