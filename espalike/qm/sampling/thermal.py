"""Thermal geometries: ETKDG starts, minimisation, and Langevin dynamics on any calculator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from espalike.chem.bonds import intact
from espalike.chem.molecule import Molecule
from espalike.qm.base import Calculator, CalculatorError
from espalike.qm.sampling.base import OneEntry, masses, minima, seed_of, stored
from espalike.units import BOLTZMANN, KJ_PER_KCAL

# Masses are in dalton, times in fs: 1 kcal/mol/Å acting on 1 dalton accelerates by this many Å/fs².
_ACCELERATION = KJ_PER_KCAL * 1e-4


@dataclass(frozen=True)
class Sampler(OneEntry):
    """Langevin dynamics from several starts, with one geometry near the minimum.

    The masses of hydrogens are raised: the distribution of geometries does not depend on masses, and slower
    hydrogens allow a longer step.

    Attributes:
        calculator: what drives the dynamics.
        frames: geometries per molecule, the first one near the minimum.
        temperature: of the bath [K].
        timestep: of the integrator [fs].
        interval: time between frames [fs].
        equilibration: time before the first frame of each trajectory [fs].
        friction: of the bath [1/fs].
        starts: trajectories per molecule, each from a conformer of its own.
        minimise: steps of energy minimisation of each start; 0 starts where it is.
        hydrogen_mass: mass of a hydrogen [dalton].
        seed: of the random numbers, together with the molecule's SMILES.
    """

    calculator: Calculator
    frames: int = 12
    temperature: float = 500.0
    timestep: float = 1.5
    interval: float = 45.0
    equilibration: float = 90.0
    friction: float = 0.01
    starts: int = 2
    minimise: int = 200
    hydrogen_mass: float = 3.0
    seed: int = 0

    def __call__(self, molecule: Molecule, starts: np.ndarray | None = None) -> np.ndarray:
        """Geometries [Å], shape `(K, A, 3)`, exactly representable in float32; thermal ones in random order.

        Args:
            molecule: the graph; a single atom gets one geometry.
            starts: geometries to start from [Å], shape `(S, A, 3)`; by default conformers by ETKDG.

        Raises:
            CalculatorError: when the calculator fails or bonds break in every attempt, naming the molecule.
        """
        if molecule.n_atoms == 1:
            return np.zeros((1, 1, 3))
        seed = seed_of(molecule, self.seed)
        rng = np.random.default_rng(seed)
        points = minima(self.calculator, molecule, starts, self.starts, self.minimise, seed)
        shares = np.diff(np.linspace(0, self.frames - 1, len(points) + 1).round().astype(int))
        thermal: list[np.ndarray] = []
        for point, share in zip(points, shares, strict=True):
            thermal += self._trajectory(molecule, point, int(share), rng)
        order = rng.permutation(len(thermal))
        return stored([points[0], *(thermal[i] for i in order)])

    def _trajectory(
        self, molecule: Molecule, start: np.ndarray, count: int, rng: np.random.Generator
    ) -> list[np.ndarray]:
        """`count` frames; a trajectory whose bonds break is taken up again from the start, three times at most."""
        kept: list[np.ndarray] = []
        for _ in range(4):
            for frame in self._run(molecule, start, rng):
                if len(kept) == count:
                    return kept
                if not intact(molecule, frame):
                    break
                kept.append(frame)
        raise CalculatorError(
            "bonds broken", f"{molecule.name}: bonds break or form at {self.temperature} K on {self.calculator.level}"
        )

    def _run(self, molecule: Molecule, start: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
        steps = max(1, round(self.interval / self.timestep))
        run = langevin(
            self.calculator,
            molecule,
            start,
            rng=rng,
            temperature=self.temperature,
            timestep=self.timestep,
            friction=self.friction,
            hydrogen_mass=self.hydrogen_mass,
        )
        wait = round(self.equilibration / self.timestep)
        for step, xyz in enumerate(run, start=1):
            if step >= wait and (step - wait) % steps == 0:
                yield xyz


def langevin(
    calculator: Calculator,
    molecule: Molecule,
    xyz: np.ndarray,
    *,
    rng: np.random.Generator,
    temperature: float = 500.0,
    timestep: float = 1.0,
    friction: float = 0.01,
    hydrogen_mass: float = 1.008,
) -> Iterator[np.ndarray]:
    """Endless Langevin dynamics (BAOAB, Leimkuhler and Matthews 2013), one geometry [Å] `(A, 3)` per step.

    Velocities start at twice the temperature, since half of the kinetic energy goes into a structure that starts at
    its minimum. The centre of mass is held in place.

    Args:
        calculator: gives the forces.
        molecule: the graph.
        xyz: where it starts [Å], shape `(A, 3)`.
        rng: source of the noise.
        temperature: of the bath [K].
        timestep: [fs].
        friction: [1/fs].
        hydrogen_mass: [dalton].
    """
    mass = masses(molecule, hydrogen_mass)[:, None]
    thermal = np.sqrt(BOLTZMANN * temperature * _ACCELERATION / mass)  # Å/fs
    decay = np.exp(-friction * timestep)
    noise = np.sqrt(1.0 - decay**2) * thermal
    x = np.array(xyz, dtype=np.float64)
    v = np.sqrt(2.0) * thermal * rng.standard_normal(x.shape)
    forces = calculator(molecule, x)[1]
    while True:
        v = v + 0.5 * timestep * _ACCELERATION * forces / mass
        x = x + 0.5 * timestep * v
        v = decay * v + noise * rng.standard_normal(x.shape)
        v = v - (mass * v).sum(0) / mass.sum()
        x = x + 0.5 * timestep * v
        forces = calculator(molecule, x)[1]
        v = v + 0.5 * timestep * _ACCELERATION * forces / mass
        yield x
