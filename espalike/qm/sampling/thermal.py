"""Thermal geometries: ETKDG starts, minimisation, and Langevin dynamics on any calculator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from espalike.chem.bonds import intact
from espalike.chem.molecule import Molecule
from espalike.qm.base import Calculator, CalculatorError, batched, in_batches
from espalike.qm.sampling.base import OneEntry, masses, minima, seed_of, stored
from espalike.units import BOLTZMANN, KJ_PER_KCAL

# Masses are in dalton, times in fs: 1 kcal/mol/Å acting on 1 dalton accelerates by this many Å/fs².
_ACCELERATION = KJ_PER_KCAL * 1e-4


@dataclass(frozen=True)
class Thermal(OneEntry):
    """Langevin dynamics from several starts, with one geometry near the minimum.

    Trajectories run side by side where the calculator computes batches. The masses of hydrogens are raised: the
    distribution of geometries does not depend on masses, and slower hydrogens allow a longer step.

    Attributes:
        calculator: what drives the dynamics.
        frames: geometries per molecule, the first one near the minimum.
        temperature: of the bath [K].
        highest: of the last trajectory's bath [K]; those of the trajectories between are spaced evenly. None: all are
            at `temperature`.
        timestep: of the integrator [fs].
        interval: time between frames [fs].
        equilibration: time before the first frame of each trajectory [fs].
        friction: of the bath [1/fs].
        starts: trajectories per molecule, each from another conformer.
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
    highest: float | None = None

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
        highest = self.temperature if self.highest is None else self.highest
        walkers = [
            _Walker(point, int(share), float(temperature))
            for point, share, temperature in zip(
                points, shares, np.linspace(self.temperature, highest, len(points)), strict=True
            )
        ]
        for group in [walkers] if in_batches(self.calculator) else [[walker] for walker in walkers]:
            self._trajectories(molecule, group, rng)
        thermal = [frame for walker in walkers for frame in walker.frames]
        order = rng.permutation(len(thermal))
        return stored([points[0], *(thermal[i] for i in order)])

    def kind(self, number: int) -> str:
        """The first geometry is relaxed, if starts are minimised; the others are thermal."""
        return "relaxed" if number == 0 and self.minimise else "thermal"

    def _trajectories(self, molecule: Molecule, walkers: list[_Walker], rng: np.random.Generator) -> None:
        """Run all walkers to their count; one whose bonds break starts again, three times at most."""
        for _ in range(4):
            left = [walker for walker in walkers if walker.wants_more]
            running = set(left)
            if not left:
                return
            for frames in self._run(molecule, left, rng):
                for walker, frame in zip(left, frames, strict=True):
                    if walker in running and not (intact(molecule, frame) and walker.keep(frame)):
                        running.discard(walker)
                if not running:
                    break
        if any(walker.wants_more for walker in walkers):
            raise CalculatorError(
                "bonds broken",
                f"{molecule.name}: bonds break or form at {self.temperature} K on {self.calculator.level}",
            )

    def _run(self, molecule: Molecule, walkers: list[_Walker], rng: np.random.Generator) -> Iterator[np.ndarray]:
        steps = max(1, round(self.interval / self.timestep))
        run = langevin_batch(
            self.calculator,
            molecule,
            np.array([walker.start for walker in walkers]),
            rng=rng,
            temperature=np.array([walker.temperature for walker in walkers]),
            timestep=self.timestep,
            friction=self.friction,
            hydrogen_mass=self.hydrogen_mass,
        )
        wait = round(self.equilibration / self.timestep)
        for step, xyz in enumerate(run, start=1):
            if step >= wait and (step - wait) % steps == 0:
                yield xyz


@dataclass(eq=False)
class _Walker:
    """A trajectory: where it starts [Å], how many frames it shall have, its temperature [K], and the frames so far."""

    start: np.ndarray
    count: int
    temperature: float
    frames: list[np.ndarray] = field(default_factory=list)

    @property
    def wants_more(self) -> bool:
        return len(self.frames) < self.count

    def keep(self, frame: np.ndarray) -> bool:
        """Take a frame; whether another one is needed."""
        self.frames.append(frame)
        return self.wants_more


def langevin_batch(
    calculator: Calculator,
    molecule: Molecule,
    xyz: np.ndarray,
    *,
    rng: np.random.Generator,
    temperature: float | np.ndarray = 500.0,
    timestep: float = 1.0,
    friction: float = 0.01,
    hydrogen_mass: float = 1.008,
) -> Iterator[np.ndarray]:
    """Endless Langevin dynamics (BAOAB, Leimkuhler and Matthews 2013) of K walkers, `(K, A, 3)` [Å] per step.

    Velocities start at twice the temperature, since half of the kinetic energy goes into a structure that starts at
    its minimum. The centres of mass are held in place.

    Args:
        calculator: gives the forces.
        molecule: the graph.
        xyz: where they start [Å], shape `(K, A, 3)`.
        rng: source of the noise.
        temperature: of the bath [K], or of each walker's, shape `(K,)`.
        timestep: [fs].
        friction: [1/fs].
        hydrogen_mass: [dalton].
    """
    mass = masses(molecule, hydrogen_mass)[:, None]
    kelvin = np.reshape(temperature, (-1, 1, 1))
    thermal = np.sqrt(BOLTZMANN * kelvin * _ACCELERATION / mass)  # Å/fs
    decay = np.exp(-friction * timestep)
    noise = np.sqrt(1.0 - decay**2) * thermal
    x = np.array(xyz, dtype=np.float64)
    v = np.sqrt(2.0) * thermal * rng.standard_normal(x.shape)
    forces = batched(calculator, molecule, x)[1]
    while True:
        v = v + 0.5 * timestep * _ACCELERATION * forces / mass
        x = x + 0.5 * timestep * v
        v = decay * v + noise * rng.standard_normal(x.shape)
        v = v - (mass * v).sum(1, keepdims=True) / mass.sum()
        x = x + 0.5 * timestep * v
        forces = batched(calculator, molecule, x)[1]
        v = v + 0.5 * timestep * _ACCELERATION * forces / mass
        yield x
