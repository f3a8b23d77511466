"""Normal-mode sampling: harmonic displacements of a minimum at a temperature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from espalike.chem.bonds import intact
from espalike.chem.molecule import Molecule
from espalike.qm.base import Calculator, CalculatorError
from espalike.qm.sampling.base import OneEntry, masses, minima, seed_of, stored
from espalike.units import BOLTZMANN, KJ_PER_KCAL

# √(kcal/mol/Å²/dalton) as a wave number: ω in 1/s over 2 π c, c in cm/s.
_WAVENUMBER = float(np.sqrt(KJ_PER_KCAL * 1e26) / (2 * np.pi * 29979245800.0))


@dataclass(frozen=True)
class Modes(OneEntry):
    """Displacements along the normal modes of minima, as they are distributed at a temperature.

    The amplitude of each mode is drawn from the classical harmonic distribution, a normal one of variance kT/λ in
    mass-weighted coordinates: all modes together hold half of kT each on average. (ANI's sets, J. S. Smith et al.,
    Chem. Sci. 8 (2017) 3192, divide a random part of that energy among the modes instead.) Modes softer than `floor`
    are given its stiffness, since torsions of large amplitude do not follow straight lines.

    Attributes:
        calculator: whose minima and Hessians are taken.
        frames: geometries per molecule.
        temperature: [K].
        floor: lowest wave number of a mode [1/cm].
        starts: minima per molecule, taken in turn.
        minimise: steps of energy minimisation of each start.
        step: of the numerical Hessian [Å].
        seed: of the random numbers, together with the molecule's SMILES.
    """

    all_are: ClassVar[str] = "thermal"

    calculator: Calculator
    frames: int = 8
    temperature: float = 500.0
    floor: float = 150.0
    starts: int = 1
    minimise: int = 500
    step: float = 0.005
    seed: int = 0

    def __call__(self, molecule: Molecule, starts: np.ndarray | None = None) -> np.ndarray:
        """Geometries [Å], shape `(K, A, 3)`; see `Geometries`."""
        if molecule.n_atoms == 1:
            return np.zeros((1, 1, 3))
        seed = seed_of(molecule, self.seed)
        rng = np.random.default_rng(seed)
        points = minima(self.calculator, molecule, starts, self.starts, self.minimise, seed)
        spreads = [self._spread(molecule, point) for point in points]
        frames = []
        for k in range(self.frames):
            i = k % len(points)
            frames.append(self._one(molecule, points[i], spreads[i], rng))
        return stored(frames)

    def _spread(self, molecule: Molecule, point: np.ndarray) -> np.ndarray:
        """Displacement of one standard deviation of each mode [Å], shape `(3 A − 6, A, 3)`, or 3 A − 5."""
        numbers, modes = normal_modes(self.calculator, molecule, point, self.step)
        stiffness = (np.maximum(numbers, self.floor) / _WAVENUMBER) ** 2
        sigma = np.sqrt(BOLTZMANN * self.temperature / stiffness)
        return sigma[:, None, None] * modes

    def _one(self, molecule: Molecule, point: np.ndarray, spread: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        for _ in range(10):
            xyz = point + np.tensordot(rng.standard_normal(len(spread)), spread, axes=1)
            if intact(molecule, xyz):
                return xyz
        raise CalculatorError(
            "bonds broken", f"{molecule.name}: bonds break or form at {self.temperature} K along the normal modes"
        )


def normal_modes(
    calculator: Calculator, molecule: Molecule, xyz: np.ndarray, step: float = 0.005
) -> tuple[np.ndarray, np.ndarray]:
    """Wave numbers [1/cm], ascending, imaginary ones negative, and modes [Å/√dalton·Å], of a numerical Hessian.

    Translations and rotations are projected out, so that exactly 3 A − 6 modes remain, 3 A − 5 of a linear geometry.
    A mode times its mass-weighted amplitude [Å √dalton] is a displacement [Å].

    Args:
        calculator: gives the forces; 6 A calls.
        molecule: the graph.
        xyz: a minimum [Å], shape `(A, 3)`.
        step: of the central differences [Å].

    Returns:
        Wave numbers, shape `(Q,)`, and modes, shape `(Q, A, 3)`.

    Raises:
        CalculatorError: when the calculator fails.
    """
    root = np.sqrt(masses(molecule))
    hessian = _hessian(calculator, molecule, xyz, step) / np.outer(np.repeat(root, 3), np.repeat(root, 3))
    inner = _internal_space(xyz, root)
    values, vectors = np.linalg.eigh(inner.T @ hessian @ inner)
    numbers = _WAVENUMBER * np.sign(values) * np.sqrt(np.abs(values))
    return numbers, (inner @ vectors).T.reshape(len(values), -1, 3) / root[:, None]


def _hessian(calculator: Calculator, molecule: Molecule, xyz: np.ndarray, step: float) -> np.ndarray:
    rows = []
    for shift in step * np.eye(xyz.size).reshape(-1, *xyz.shape):
        plus, minus = calculator(molecule, xyz + shift)[1], calculator(molecule, xyz - shift)[1]
        rows.append((minus - plus).ravel() / (2 * step))
    hessian = np.array(rows)
    return 0.5 * (hessian + hessian.T)


def _internal_space(xyz: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Orthonormal mass-weighted directions that neither move nor turn the molecule, shape `(3 A, Q)`."""
    centred = xyz - (root[:, None] ** 2 * xyz).sum(0) / (root**2).sum()
    rigid = [np.tile(axis, (len(xyz), 1)) for axis in np.eye(3)] + [np.cross(axis, centred) for axis in np.eye(3)]
    columns = np.array([(root[:, None] * motion).ravel() for motion in rigid]).T
    left, sizes, _ = np.linalg.svd(columns, full_matrices=True)
    return left[:, int((sizes > 1e-4 * sizes[0]).sum()) :]
