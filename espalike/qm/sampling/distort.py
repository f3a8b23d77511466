"""Distorted geometries: every bond and angle of a minimum changed at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from espalike.chem.bonds import intact
from espalike.chem.molecule import Molecule
from espalike.geometry import Angle, Coordinate, Dihedral, Distance
from espalike.qm.base import Calculator, CalculatorError
from espalike.qm.sampling.base import OneEntry, minima, seed_of, stored
from espalike.topology import Topology, enumerate_tuples

# How much a coordinate may miss its target where not all can be met, in rings for instance: Å and rad.
_BOND, _ANGLE, _TORSION = 0.05, 0.1, 0.3


@dataclass(frozen=True)
class Distort(OneEntry):
    """Bonds and angles around minima, each changed by a random amount; torsions stay near where they were.

    Targets are drawn for all bonds and angles at once, and the geometry that comes nearest to them, in least squares,
    is found by Gauss–Newton steps in Cartesian coordinates. Rings and the redundant angles of a centre therefore need
    no rule of their own; a bond misses its target by 0.01 Å or so, since angles and torsions pull as well.

    Attributes:
        calculator: whose minima are distorted.
        frames: geometries per molecule.
        bond: largest change of a bond [Å].
        angle: largest change of an angle [degree].
        starts: minima per molecule, taken in turn.
        minimise: steps of energy minimisation of each start; 0 distorts it as it is.
        seed: of the random numbers, together with the molecule's SMILES.
    """

    all_are: ClassVar[str] = "distorted"

    calculator: Calculator
    frames: int = 4
    bond: float = 0.15
    angle: float = 15.0
    starts: int = 2
    minimise: int = 200
    seed: int = 0

    def __call__(self, molecule: Molecule, starts: np.ndarray | None = None) -> np.ndarray:
        """Geometries [Å], shape `(K, A, 3)`; see `Geometries`. Each takes a third to all of the largest changes."""
        if molecule.n_atoms == 1:
            return np.zeros((1, 1, 3))
        seed = seed_of(molecule, self.seed)
        rng = np.random.default_rng(seed)
        points = minima(self.calculator, molecule, starts, self.starts, self.minimise, seed)
        topology = enumerate_tuples(molecule.numbers, molecule.bonds, molecule.orders, molecule.charges)
        return stored([self._one(molecule, topology, points[k % len(points)], rng) for k in range(self.frames)])

    def _one(self, molecule: Molecule, topology: Topology, point: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        n_bonds, n_angles, n_torsions = map(len, (topology.bonds, topology.angles, topology.propers))
        reach = np.repeat([self.bond, np.deg2rad(self.angle), 0.0], [n_bonds, n_angles, n_torsions])
        for _ in range(10):
            share = rng.uniform(1 / 3, 1)
            xyz = _reach(topology, point, share * reach * rng.uniform(-1, 1, len(reach)))
            if intact(molecule, xyz):
                return xyz
        raise CalculatorError(
            "bonds broken", f"{molecule.name}: bonds break or form at ±{self.bond} Å and ±{self.angle}° every time"
        )


def _reach(topology: Topology, start: np.ndarray, change: np.ndarray, steps: int = 12) -> np.ndarray:
    """The geometry whose bonds, angles and torsions are nearest to those of `start` plus `change`, weighted."""
    counts = [len(topology.bonds), len(topology.angles), len(topology.propers)]
    weight = 1.0 / np.repeat([_BOND, _ANGLE, _TORSION], counts)
    xyz = start.copy()
    target = _internal(topology, xyz)[0] + change
    bend = slice(counts[0], counts[0] + counts[1])
    target[bend] = np.pi - np.abs(np.pi - target[bend])  # beyond straight an angle becomes smaller again
    for _ in range(steps):
        now, rows = _internal(topology, xyz)
        miss = target - now
        miss[bend.stop :] -= 2 * np.pi * np.round(miss[bend.stop :] / (2 * np.pi))
        step = np.linalg.lstsq(weight[:, None] * rows, weight * miss, rcond=1e-4)[0].reshape(-1, 3)
        step *= min(1.0, 0.2 / max(np.abs(step).max(), 1e-12))
        xyz = xyz + step
        if np.abs(step).max() < 1e-5:
            break
    return xyz


def _internal(topology: Topology, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values of bonds [Å], angles and torsions [rad], and their derivatives by the coordinates, shape `(Q, 3 A)`."""
    values, blocks = [], []
    points = torch.as_tensor(xyz)[None]
    kinds: tuple[tuple[Coordinate, np.ndarray], ...] = (
        (Distance(0, 1), topology.bonds),
        (Angle(0, 1, 2), topology.angles),
        (Dihedral(0, 1, 2, 3), topology.propers),
    )
    for coordinate, idx in kinds:
        q, rows = coordinate(tuple(points[:, torch.as_tensor(column)] for column in idx.T))
        block = np.zeros((len(idx), *xyz.shape))
        for column, row in zip(idx.T, rows, strict=True):
            block[np.arange(len(idx)), column] += row[0].numpy()
        values.append(q[0].numpy())
        blocks.append(block.reshape(len(idx), xyz.size))
    return np.concatenate(values), np.concatenate(blocks)
