"""Density and heat of vaporisation of pure liquids by molecular dynamics: `espalike check --liquids`.

The liquid is a periodic box at constant temperature and pressure, the gas a single molecule. Bonds vibrate; hydrogens
weigh 3 dalton, which changes no average. Pairs are cut off at 9 Å with a switch from 8 Å and a correction for what lies
beyond, and charges use particle-mesh Ewald, as force fields of OpenFF are fitted. The heat of vaporisation is
<U(gas)> − <U(liquid)>/N + RT: the gas is ideal, and the volume of the liquid and quantum effects are neglected.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial.transform import Rotation

from espalike import files
from espalike.check.case import Engine
from espalike.check.fields import Field, kept_field
from espalike.chem import embed
from espalike.chem.molecule import Molecule
from espalike.units import BOLTZMANN, KJ_PER_KCAL, factor
from espalike.workers import pool

if TYPE_CHECKING:
    import openmm

_NM, _KJ = factor("nm"), factor("kJ/mol")
TEMPERATURE, PRESSURE = 298.15, 1.01325
"""Temperature and pressure of the liquid [K, bar]."""
_CUTOFF, _SWITCH = 9.0, 8.0
"""Distances at which pairs are cut off, and from which they are switched off [Å]."""
_STEP, _HYDROGEN = 2.0, 3.0
"""Time step [fs] and mass of hydrogen [dalton]."""
_FRICTION, _GAS_FRICTION = 1.0, 5.0
"""Friction in Langevin dynamics of the liquid and of a molecule [1/ps]."""
_EVERY = 100
"""Steps between samples of the liquid."""
_GAS = 40
"""Length of the gas's dynamics relative to that of the liquid."""
EQUILIBRATION, BLOCKS = 5, 10
"""Blocks that are left out, and blocks that are averaged."""
REFERENCE = "openff-2.3.0"
ALLOWED = {"density": 3.0, "heat": 10.0}
"""How much larger than that of the reference a deviation from experiment may be [%]."""
_DENSITY = 1.66053906660
"""One dalton/Å³ in g/mL."""


@dataclass(frozen=True)
class Liquid:
    """A pure liquid, and its measured properties at 298.15 K and 1 bar.

    Attributes:
        name: in tables and on the command line.
        smiles: of its molecule.
        density: [g/mL].
        heat: of vaporisation [kcal/mol].
    """

    name: str
    smiles: str
    density: float
    heat: float


LIQUIDS = {
    name: Liquid(name, smiles, density, kilojoules / KJ_PER_KCAL)
    for name, smiles, density, kilojoules in (
        ("ethanol", "CCO", 0.7851, 42.32),
        ("acetone", "CC(C)=O", 0.7845, 30.99),
        ("ethyl-acetate", "CCOC(C)=O", 0.8945, 35.60),
        ("dimethylformamide", "CN(C)C=O", 0.94381, 46.89),
        ("acetonitrile", "CC#N", 0.7766, 32.94),
        ("diethyl-ether", "CCOCC", 0.7078, 27.10),
        ("benzene", "c1ccccc1", 0.87357, 33.83),
        ("pyridine", "c1ccncc1", 0.98285, 40.21),
        ("cyclohexane", "C1CCCCC1", 0.7738, 33.01),
        ("chloroform", "ClC(Cl)Cl", 1.4797, 31.28),
    )
}
"""Densities of four are of OpenFF Sage's training set (dimethylformamide: doi 10.1021/je049953t; benzene, cyclohexane:
10.1016/j.fluid.2013.10.033; pyridine: 10.1016/j.fluid.2015.04.031), all others handbook values (as in Riddick et al.,
1986, and Majer and Svoboda, 1985) entered without the books at hand: look one up before a decision depends on it."""


@dataclass(frozen=True)
class Protocol:
    """Length and size of the simulations.

    Attributes:
        molecules: in the box.
        picoseconds: length of the dynamics of the liquid, after half as much for equilibration.
    """

    molecules: int = 125
    picoseconds: float = 100.0


@dataclass(frozen=True)
class Result:
    """A liquid with a force field.

    Attributes:
        field: name of the force field.
        liquid: the liquid, with its measured properties.
        density: with its standard error [g/mL].
        heat: of vaporisation, with its standard error [kcal/mol].
        message: why there are no values.
    """

    field: str
    liquid: Liquid
    density: tuple[float, float] = (math.nan, math.nan)
    heat: tuple[float, float] = (math.nan, math.nan)
    message: str = ""

    def deviation(self, quantity: str) -> tuple[float, float]:
        """Of `density` or `heat` from experiment, and its standard error [%]."""
        measured = getattr(self.liquid, quantity)
        value, error = getattr(self, quantity)
        return 100 * (value / measured - 1), 100 * error / measured


def measure(
    sources: Sequence[str],
    liquids: Sequence[Liquid],
    protocol: Protocol,
    folder: Path,
    jobs: int = 1,
    advance: Callable[[], None] = lambda: None,
) -> list[Result]:
    """Run liquids with force fields.

    Args:
        sources: names or files of force fields, see `field_of`.
        liquids: what to run.
        protocol: how long and how large.
        folder: each liquid's state is kept here after every block, and a second call continues from there.
        jobs: number of processes, each with one thread.
        advance: called after each of the `EQUILIBRATION + BLOCKS` blocks of each liquid with each force field.

    Returns:
        The liquids with the first force field, then those with the second one.

    Raises:
        FileNotFoundError, ModelFileError, ImportError, ValueError: see `field_of`.
        ValueError: when the box would be too small for the cut-off.
    """
    for liquid in liquids:
        _check_size(liquid, protocol)
    runs = [
        _Run(source, liquid, protocol, _file(source, liquid, protocol, folder))
        for source in sources
        for liquid in liquids
    ]
    results: dict[_Run, Result] = {}
    active: dict[Future[Record], _Run] = {}
    waiting = list(runs)
    with pool(jobs) as workers:
        while len(results) < len(runs):
            while waiting and len(active) < jobs:
                run = waiting.pop(0)
                record = _read(run.file)
                for _ in record["blocks"]:
                    advance()
                if len(record["blocks"]) == EQUILIBRATION + BLOCKS:
                    results[run] = _result(run, record)
                else:
                    active[workers.submit(_next_block, run)] = run
            for future in wait(active, return_when=FIRST_COMPLETED).done:
                run, record = active.pop(future), future.result()
                advance()
                if record["message"] or len(record["blocks"]) == EQUILIBRATION + BLOCKS:
                    results[run] = _result(run, record)
                else:
                    active[workers.submit(_next_block, run)] = run
    return [results[run] for run in runs]


Record = dict[str, Any]
"""What is kept of a run: `blocks`, a list of density [g/mL], energies per molecule of the liquid and of the gas
[kcal/mol]; positions [nm], velocities [nm/ps] and edge of the box [nm]; and a message if the force field failed."""


@dataclass(frozen=True)
class _Run:
    source: str
    liquid: Liquid
    protocol: Protocol
    file: Path


def _check_size(liquid: Liquid, protocol: Protocol) -> None:
    volume = sum(Molecule.from_smiles(liquid.smiles).masses()) * _DENSITY / liquid.density
    least = math.ceil((2.2 * _CUTOFF) ** 3 / volume)
    if protocol.molecules < least:
        raise ValueError(
            f"{liquid.name}: a box of {protocol.molecules} molecules is too small for the cut-off of {_CUTOFF:g} Å; "
            f"expected {least} or more"
        )


def _file(source: str, liquid: Liquid, protocol: Protocol, folder: Path) -> Path:
    """Where a run is kept: another force field, liquid or protocol has another file."""
    key = hashlib.sha256(repr((kept_field(source).identity, liquid, protocol, __doc__)).encode()).hexdigest()[:10]
    return folder / f"{liquid.name}-{key}.json"


def _read(file: Path) -> Record:
    """What is kept of a run; nothing if the file is not what was written."""
    record = files.unsealed(file.read_bytes(), file.name) if file.is_file() else None
    return {"blocks": [], "message": ""} if record is None else record


def _next_block(run: _Run) -> Record:
    """Run one more block and keep it; where the force field fails, the record has a message and is not kept."""
    from openmm import OpenMMException

    record = _read(run.file)
    try:
        box, single = _systems(kept_field(run.source), run.liquid, run.protocol.molecules)
    except Exception as error:  # whatever a force field raises, this liquid has no parameters
        return {**record, "message": f"no parameters: {error}"}
    try:
        state = record if record["blocks"] else _packed(box, run)
        number = len(record["blocks"])
        density, liquid, state = _liquid(box, state, run, number)
        gas = _gas(single, run, number)
    except OpenMMException as error:  # "Particle coordinate is NaN", for instance
        return {**record, "message": str(error)}
    if not np.isfinite([density, liquid, gas]).all():
        return {**record, "message": f"not finite: density {density} g/mL, energies {liquid}, {gas} kcal/mol"}
    made = {"blocks": [*record["blocks"], (density, liquid, gas)], "message": "", **state}
    kept = files.sealed({"force_field": run.source, "liquid": run.liquid.name, **made}, run.file.name)
    files.write(run.file, json.dumps(kept))
    return made


@lru_cache(maxsize=1)
def _systems(field: Field, liquid: Liquid, copies: int) -> tuple[openmm.System, openmm.System]:
    """The periodic box with its barostat, and one molecule."""
    import openmm
    from openmm import app

    molecule = Molecule.from_smiles(liquid.smiles, liquid.name)
    forcefield = field.forcefield(molecule)
    settings = {"constraints": None, "rigidWater": False, "removeCMMotion": False, "hydrogenMass": _HYDROGEN}
    single = forcefield.createSystem(_topology(molecule, 1), nonbondedMethod=app.NoCutoff, **settings)
    many = _topology(molecule, copies)
    many.setUnitCellDimensions((10.0, 10.0, 10.0))  # replaced by that of the packed molecules
    cutoffs = {"nonbondedCutoff": _CUTOFF / _NM, "switchDistance": _SWITCH / _NM}
    box = forcefield.createSystem(many, nonbondedMethod=app.PME, **cutoffs, **settings)
    box.addForce(openmm.MonteCarloBarostat(PRESSURE, TEMPERATURE))
    return box, single


def _topology(molecule: Molecule, copies: int) -> openmm.app.Topology:
    from openmm import app

    from espalike.export import to_topology

    one, many = to_topology(molecule), app.Topology()
    chain = many.addChain()
    for _ in range(copies):
        residue = many.addResidue("LIQ", chain)
        atoms = [many.addAtom(atom.name, atom.element, residue) for atom in one.atoms()]
        for bond in one.bonds():
            many.addBond(atoms[bond.atom1.index], atoms[bond.atom2.index])
    return many


def _context(system: openmm.System, integrator: openmm.Integrator, edge: float) -> openmm.Context:
    """A context with a cubic box [nm], on OpenMM's fastest platform; on a CPU one thread."""
    import openmm

    openmm.Platform.getPlatform("CPU").setPropertyDefaultValue("Threads", "1")
    system.setDefaultPeriodicBoxVectors(*np.diag([edge] * 3))
    return openmm.Context(system, integrator)


def _packed(box: openmm.System, run: _Run) -> Record:
    """Molecules turned at random on a lattice that is pressed together to the measured density, at rest."""
    import openmm

    rng = np.random.default_rng(0)
    one = embed(Molecule.from_smiles(run.liquid.smiles), 1)[0] / _NM
    one -= one.mean(0)
    copies = run.protocol.molecules
    side = math.ceil(copies ** (1 / 3) - 1e-9)
    edge = side * (2 * float(np.linalg.norm(one, axis=1).max()) + 0.2)
    sites = rng.permutation(np.stack(np.meshgrid(*[np.arange(side)] * 3), -1).reshape(-1, 3))[:copies] * edge / side
    positions = np.stack([turn.apply(one) for turn in Rotation.random(copies, rng)]) + sites[:, None]
    volume = _mass(box) * _DENSITY / run.liquid.density / _NM**3
    target = volume ** (1 / 3)
    context = _context(box, openmm.VerletIntegrator(0.001), edge)
    while True:
        context.setPeriodicBoxVectors(*np.diag([edge] * 3))
        context.setPositions(positions.reshape(-1, 3))
        openmm.LocalEnergyMinimizer.minimize(context, 10.0, 50)
        positions = context.getState(positions=True).getPositions(asNumpy=True)._value.reshape(positions.shape)
        if edge <= target:
            break
        shrink = max(0.96, target / edge)
        positions = positions + (shrink - 1) * positions.mean(1, keepdims=True)
        edge *= shrink
    return {"positions": positions.reshape(-1, 3).tolist(), "edge": edge}


def _mass(system: openmm.System) -> float:
    """Mass of a system [dalton]."""
    return sum(system.getParticleMass(n)._value for n in range(system.getNumParticles()))


def _langevin(friction: float, seed: int) -> openmm.LangevinMiddleIntegrator:
    import openmm

    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, friction, _STEP * 1e-3)
    integrator.setRandomNumberSeed(seed)
    return integrator


def _liquid(box: openmm.System, state: Record, run: _Run, number: int) -> tuple[float, float, Record]:
    """Means of the density [g/mL] and of the energy per molecule [kcal/mol] over a block, and the state at its end."""
    box.getForce(box.getNumForces() - 1).setRandomNumberSeed(number + 1)
    integrator = _langevin(_FRICTION, number + 1)
    context = _context(box, integrator, state["edge"])
    context.setPositions(state["positions"])
    if "velocities" in state:
        context.setVelocities(state["velocities"])
    else:
        context.setVelocitiesToTemperature(TEMPERATURE, 1)
    densities, energies = [], []
    for _ in _samples(run, _EVERY):
        integrator.step(_EVERY)
        now = context.getState(energy=True)
        densities.append(_mass(box) * _DENSITY / (now.getPeriodicBoxVolume()._value * _NM**3))
        energies.append(now.getPotentialEnergy()._value * _KJ / run.protocol.molecules)
    end = context.getState(positions=True, velocities=True)
    state = {
        "positions": end.getPositions(asNumpy=True)._value.tolist(),
        "velocities": end.getVelocities(asNumpy=True)._value.tolist(),
        "edge": end.getPeriodicBoxVectors(asNumpy=True)._value[0, 0],
    }
    return float(np.mean(densities)), float(np.mean(energies)), state


def _samples(run: _Run, every: int) -> range:
    return range(max(1, round(run.protocol.picoseconds / BLOCKS / _STEP * 1e3 / every)))


def _gas(single: openmm.System, run: _Run, number: int) -> float:
    """Mean energy of a molecule alone over a block [kcal/mol]; its first tenth is left out."""
    engine = Engine(single, _langevin(_GAS_FRICTION, number + 1))
    engine.minimised(embed(Molecule.from_smiles(run.liquid.smiles), 1)[0])
    engine.context.setVelocitiesToTemperature(2 * TEMPERATURE, number + 1)  # half goes into the potential energy
    steps = _GAS * _EVERY * len(_samples(run, _EVERY))
    kinetic = 1.5 * engine.n_atoms * BOLTZMANN
    energies = [total - kinetic * temperature for temperature, total, _ in engine.run(steps)]
    return float(np.mean(energies[len(energies) // 10 :]))


def _result(run: _Run, record: Record) -> Result:
    if record["message"]:
        return Result(kept_field(run.source).name, run.liquid, message=record["message"])
    density, liquid, gas = np.array(record["blocks"])[EQUILIBRATION:].T
    heat = gas - liquid + BOLTZMANN * TEMPERATURE
    return Result(kept_field(run.source).name, run.liquid, _mean(density), _mean(heat))


def verdict(own: float, reference: float, allowed: float, error: float) -> str:
    """Whether a deviation from experiment is at most that of the reference plus what is allowed.

    Args:
        own: deviation of the force field, of either sign [%].
        reference: that of the reference [%].
        allowed: [%].
        error: standard error of the difference of both [%].

    Returns:
        `passed`, `failed`, or `undecided` where the limit is within two standard errors.
    """
    excess = abs(own) - abs(reference) - allowed
    if not abs(excess) > 2 * error:
        return "undecided"
    return "failed" if excess > 0 else "passed"


def _mean(values: np.ndarray) -> tuple[float, float]:
    """Mean of the blocks and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))
