"""Minimisation of many geometries side by side, each at its torsion angles, on calculators that compute batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from espalike.chem.bonds import intact
from espalike.chem.molecule import Molecule
from espalike.geometry import Dihedral
from espalike.qm.base import Calculator, batched, in_batches
from espalike.qm.sampling.constrained import turned
from espalike.qm.sampling.minimise import minimised_batch
from espalike.qm.sampling.torsions import in_ring

_SHAKE = 0.03
"""Random displacement of each coordinate before a minimisation in a batch [Å]."""


def side_by_side(calculator: Calculator, molecule: Molecule, torsions: Sequence[tuple[int, ...]]) -> bool:
    """Whether `restrained_batch` can do these torsions: the calculator computes batches, and no bond is in a ring."""
    return in_batches(calculator) and not any(in_ring(molecule, torsion) for torsion in torsions)


def restrained_batch(
    calculator: Calculator,
    molecule: Molecule,
    xyz: np.ndarray,
    angles: Mapping[tuple[int, ...], np.ndarray],
    steps: int = 200,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Minima near geometries whose torsions are turned to given angles, all side by side under stiff restraints.

    Afterwards, the torsions are turned to exactly these angles.

    Args:
        calculator: gives energies and forces, best one that computes batches.
        molecule: the graph.
        xyz: where they start [Å], shape `(K, A, 3)`.
        angles: by the four atoms of a torsion, whose middle bond is in no ring, the angles of all geometries [degree],
            shape `(K,)`.
        steps: evaluations of each geometry, at most.
        seed: of small random displacements at the start: a symmetric geometry can be a saddle point.

    Returns:
        Energies [kcal/mol], shape `(K,)`, infinite where bonds break or form, and geometries [Å], shape `(K, A, 3)`.

    Raises:
        CalculatorError: when the calculator fails.
    """

    def turn(points: np.ndarray) -> np.ndarray:
        of_each = (dict(zip(angles, row, strict=True)) for row in zip(*angles.values(), strict=True))
        return np.array([turned(molecule, one, targets) for one, targets in zip(points, of_each, strict=True)])

    shaken = turn(xyz) + np.random.default_rng(seed).normal(0.0, _SHAKE, np.shape(xyz))
    relaxed = turn(minimised_batch(calculator, molecule, shaken, steps, _Restraints(angles)))
    energies = batched(calculator, molecule, relaxed)[0]
    return np.where([intact(molecule, one) for one in relaxed], energies, np.inf), relaxed


class _Restraints:
    """½ k (φ − target)² on each torsion, as a `Bias`; k = 2,000 kcal/mol/rad² leaves a few tenths of a degree.

    Args:
        angles: see `restrained_batch`.
    """

    stiffness = 2000.0

    def __init__(self, angles: Mapping[tuple[int, ...], np.ndarray]):
        self.targets = {torsion: np.deg2rad(degrees) for torsion, degrees in angles.items()}

    def __call__(self, xyz: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        energies, forces = np.zeros(len(xyz)), np.zeros_like(xyz)
        for torsion, targets in self.targets.items():
            points = torch.from_numpy(xyz[:, list(torsion)])
            value, rows = Dihedral(0, 1, 2, 3)(tuple(points[:, i] for i in range(4)))
            miss = value.numpy() - targets[numbers]
            miss -= 2 * np.pi * np.round(miss / (2 * np.pi))
            for atom, row in zip(torsion, rows, strict=True):
                forces[:, atom] -= (self.stiffness * miss)[:, None] * row.numpy()
            energies += 0.5 * self.stiffness * miss**2
        return energies, forces
