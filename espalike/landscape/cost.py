"""What a call costs: milliseconds of the processor per energy and forces, one thread, by number of atoms."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from espalike.chem import embed
from espalike.chem.molecule import Molecule
from espalike.landscape import boxes
from espalike.landscape.hybrids import Hybrid, hybrid
from espalike.potential import ForceFieldCalculator, parameters, potential
from espalike.qm.base import Calculator
from espalike.qm.mmff import RDKitCalculator
from espalike.qm.openmm_xml import SystemCalculator

if TYPE_CHECKING:
    import openmm

PEPTIDES = {n: boxes.peptide(n) for n in (1, 4, 9)}
"""Peptides of 22, 52 and 102 atoms, by number of residues."""
MIDDLE = PEPTIDES[4].n_atoms
"""Number of atoms at which methods are compared on the plane."""
FORCE_FIELD, SEMI_EMPIRICAL, ML, QM = "force field", "semi-empirical", "ML potential", "QM"
HYBRID = "ML potential, inner steps by a force field"
_SHORTEST = 0.05
"""Seconds that a timing takes at least."""
_SHORT_STEP = 0.1
"""Inner time step of hybrids in timings [fs]."""


@dataclass(frozen=True)
class Cost:
    """Cost of a method.

    Attributes:
        kind: `force field`, `semi-empirical`, `ML potential`, `QM` or `HYBRID`.
        ms: milliseconds per energy and forces, by number of atoms; a force field's as a step of OpenMM, a hybrid's
            as an inner step.
        parametrize: milliseconds for the parameters of `MIDDLE` atoms, without loading; None for other methods.
        water: milliseconds per step of the molecule of `MIDDLE` atoms in water, by number of atoms in all; of force
            fields whose nonbonded forces OpenMM has, and of hybrids, whose potential is the molecule's alone.
    """

    kind: str
    ms: Mapping[int, float]
    parametrize: float | None = None
    water: Mapping[int, float] = field(default_factory=dict)


def cost(method: str, rounds: int, sizes: tuple[int, ...] = (1, 4, 9), water: tuple[int, ...] = ()) -> Cost:
    """Measure a method.

    Args:
        method: see `espalike.potential.potential` and `espalike.landscape.hybrids.hybrid`.
        rounds: number of timings, of which the median counts.
        sizes: residues of the peptides, see `PEPTIDES`.
        water: numbers of atoms of boxes of water with the peptide of `MIDDLE` atoms.

    Raises:
        NotInstalled, ValueError, FileNotFoundError: see `espalike.potential.potential`.
        CalculatorError: when the method cannot compute a peptide.
    """
    with _one_core():
        mixed = hybrid(method)
        return _multiple(mixed, rounds, sizes, water) if mixed else _measured(method, rounds, sizes, water)


@contextmanager
def _one_core() -> Iterator[None]:
    """Keep this thread, and those that it starts, on one core, where the system can.

    OpenMM hands each step to a thread of its own. Where that runs on another core, waking it can take four times as
    long as the step.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _measured(method: str, rounds: int, sizes: tuple[int, ...], water: tuple[int, ...]) -> Cost:
    ms, in_water, kind, parametrize = {}, {}, FORCE_FIELD, None
    for n in sizes:
        molecule = PEPTIDES[n]
        calculator = potential(method, molecule)
        kind = _kind(calculator)
        ms[molecule.n_atoms] = 1e3 * _median(_call(calculator, molecule), rounds)
        if isinstance(calculator, ForceFieldCalculator | SystemCalculator) and molecule.n_atoms == MIDDLE:
            parametrize = 1e3 * _median(_parametrization(method, calculator, molecule), rounds)
            for atoms in water:
                box = boxes.box(atoms)
                system = boxes.within(_system(calculator, molecule), box)
                if system is not None:
                    in_water[len(box.xyz)] = 1e3 * _median(_step(system, box.relaxed(system), 20), rounds)
    return Cost(kind, ms, parametrize, in_water)


def _multiple(of: Hybrid, rounds: int, sizes: tuple[int, ...], water: tuple[int, ...]) -> Cost:
    """Cost of an inner step, with its share of the outer one."""
    from espalike.export import to_openmm
    from espalike.hybrid import multiple_time_step

    ms, in_water = {}, {}
    # short steps cost as much as long ones, and are stable however far the force field is from the potential
    multiple = partial(multiple_time_step, outer=of.substeps * _SHORT_STEP, inner=_SHORT_STEP)
    for n in sizes:
        molecule = PEPTIDES[n]
        field, upper = parameters(of.inner, molecule), potential(of.outer, molecule)
        alone = to_openmm(field)
        system, integrator = multiple(field, upper)
        step = _step(system, embed(molecule, 1)[0], 0, integrator)
        ms[molecule.n_atoms] = 1e3 * _median(step, rounds) / of.substeps
        for atoms in water if molecule.n_atoms == MIDDLE else ():
            box = boxes.box(atoms)
            if (wet := boxes.within(alone, box)) is not None:
                system, integrator = multiple(field, upper, within=wet, atoms=range(box.solute))
                step = _step(system, box.relaxed(wet), 0, integrator)
                in_water[len(box.xyz)] = 1e3 * _median(step, rounds) / of.substeps
    return Cost(HYBRID, ms, None, in_water)


def _system(calculator: ForceFieldCalculator | SystemCalculator, molecule: Molecule) -> openmm.System:
    return calculator.system if isinstance(calculator, ForceFieldCalculator) else calculator.system(molecule)


def _parametrization(
    method: str, calculator: ForceFieldCalculator | SystemCalculator, molecule: Molecule
) -> Callable[[], object]:
    """Assigns parameters; the model or force field is loaded before."""
    from espalike.model import load
    from espalike.potential import openff

    if isinstance(calculator, SystemCalculator):
        return lambda: calculator.system(molecule)
    if method.startswith("openff") or method.endswith(".offxml"):
        assigner = openff(method)
        return lambda: assigner([molecule])
    model = load(method).double()
    return lambda: model.parametrize(molecule)


def _call(calculator: Calculator, molecule: Molecule) -> Callable[[], object]:
    xyz = embed(molecule, 1)[0]
    if isinstance(calculator, ForceFieldCalculator | SystemCalculator):
        return _step(_system(calculator, molecule), xyz)
    rng = np.random.default_rng(0)
    # other coordinates each time: some programs start from the last result
    return lambda: calculator(molecule, xyz + rng.normal(0.0, 0.01, xyz.shape))


def _step(
    system: openmm.System, xyz: np.ndarray, minimise: int = 200, integrator: openmm.Integrator | None = None
) -> Callable[[], object]:
    """A step of OpenMM on one thread of its CPU platform, after some steps of minimisation."""
    import openmm

    integrator = integrator or openmm.LangevinMiddleIntegrator(300.0, 1.0, 0.0005)
    platform = openmm.Platform.getPlatformByName("CPU")
    context = openmm.Context(system, integrator, platform, {"Threads": "1"})
    context.setPositions(xyz / 10)
    if minimise:
        openmm.LocalEnergyMinimizer.minimize(context, 10.0, minimise)
    context.applyConstraints(1e-5)
    context.setVelocitiesToTemperature(300.0, 1)

    def step(context: openmm.Context = context) -> None:  # the context lives as long as the function
        integrator.step(1)

    return step


def _median(call: Callable[[], object], rounds: int) -> float:
    """Seconds of the processor per call, those of programs that it starts included."""
    call()
    seconds: list[float] = []
    calls = 1
    while len(seconds) < rounds:
        start = _spent()
        for _ in range(calls):
            call()
        spent = _spent() - start
        if spent < _SHORTEST and not seconds:
            calls *= 4
            continue
        seconds.append(spent / calls)
    return statistics.median(seconds)


def _spent() -> float:
    """Seconds of the processor of this process and of the programs that it has started."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def _kind(calculator: Calculator) -> str:
    module = type(calculator).__module__.rpartition(".")[2]
    if isinstance(calculator, ForceFieldCalculator | RDKitCalculator | SystemCalculator) or module == "models":
        return FORCE_FIELD
    return {"xtb": SEMI_EMPIRICAL, "aimnet2": ML, "ani": ML}.get(module, QM)
