"""Langevin dynamics of one ligand from an OpenMM ForceField XML; needs OpenMM and RDKit only.

python scripts/dynamics.py ligand.xml ligand.sdf [--ps 20] [--temperature 300] [--trajectory dynamics.pdb]

Prints the temperature (mean ± standard deviation, and the canonical ensemble's standard deviation) and the largest
deviation of a bond from its equilibrium length. Exit status 1 when the run is not stable: the mean temperature is off
by more than 5 % and by more than five standard errors of a run of this length, or a bond stretches by 0.5 Å.
"""

import argparse
import math
import sys
from collections.abc import Iterator

import numpy as np
import openmm
from openmm import app, unit
from rdkit import Chem

STEP = 0.5  # fs; no constraints: bonds to hydrogen vibrate with a period of 10 fs
FRICTION = 5.0  # 1/ps
EVERY = 20  # steps between samples
LARGEST_STRETCH = 0.5  # Å; a longer bond is broken


def standard_error(freedom: int, ps: float, friction: float) -> float:
    """Standard error of the mean temperature of a Langevin run, relative to the temperature.

    The temperature of `freedom` degrees of freedom has the relative variance 2 / freedom. Its correlation time is
    1 / (2 friction), for free particles (v² decays at twice the friction) and for vibrations (half of the correlation
    of v² decays at the friction, the other half oscillates). A run of n = friction · ps therefore averages over n
    independent values.

    Args:
        freedom: number of degrees of freedom.
        ps: length of the run [ps].
        friction: of the thermostat [1/ps].
    """
    return math.sqrt(2 / freedom / max(1.0, friction * ps))


def is_at_temperature(mean: float, target: float, freedom: int, ps: float, friction: float) -> bool:
    """Whether a mean temperature is within 5 % or five standard errors of the target."""
    return abs(mean / target - 1) < max(0.05, 5 * standard_error(freedom, ps, friction))


def equilibration(ps: float, friction: float) -> float:
    """Time before a run [ps]: a tenth of its length, and five relaxation times of the thermostat at least.

    A minimised molecule takes up half of the kinetic energy; the thermostat gives it back at the rate of the friction.
    """
    return max(ps / 10, 5 / friction)


def read_sdf(path: str) -> tuple[app.Topology, np.ndarray]:
    """Topology (one residue) and coordinates [Å] of the first molecule."""
    mol = next(iter(Chem.SDMolSupplier(path, removeHs=False)), None)
    if mol is None:
        sys.exit(f"error: no molecule in {path}")
    topology = app.Topology()
    residue = topology.addResidue("LIG", topology.addChain())
    atoms = [
        topology.addAtom(f"{a.GetSymbol()}{a.GetIdx() + 1}", app.Element.getByAtomicNumber(a.GetAtomicNum()), residue)
        for a in mol.GetAtoms()
    ]
    for bond in mol.GetBonds():
        topology.addBond(atoms[bond.GetBeginAtomIdx()], atoms[bond.GetEndAtomIdx()])
    return topology, mol.GetConformer().GetPositions()


def equilibrium_bonds(system: openmm.System) -> tuple[np.ndarray, np.ndarray]:
    """Atom pairs and equilibrium lengths [Å] of all harmonic bonds."""
    pairs, lengths = [], []
    for force in system.getForces():
        if isinstance(force, openmm.HarmonicBondForce):
            for i in range(force.getNumBonds()):
                a, b, length, _ = force.getBondParameters(i)
                pairs.append((a, b))
                lengths.append(length.value_in_unit(unit.angstrom))
    return np.array(pairs, dtype=int).reshape(-1, 2), np.array(lengths)


def watch(context: openmm.Context, step, steps: int, pairs: np.ndarray) -> Iterator[tuple[float, float, np.ndarray]]:
    """Run, and give every 20 steps the temperature [K], total energy [kcal/mol] and lengths of pairs [Å].

    `step(n)` makes n steps of the context. All degrees of freedom count: there are no constraints, and the
    thermostat acts on the centre of mass as well.
    """
    freedom = 3 * context.getSystem().getNumParticles()
    for _ in range(steps // EVERY):
        step(EVERY)
        state = context.getState(positions=True, energy=True)
        kinetic = state.getKineticEnergy()
        total = (kinetic + state.getPotentialEnergy()).value_in_unit(unit.kilocalories_per_mole)
        at = state.getPositions(asNumpy=True).value_in_unit(unit.angstrom)
        lengths = np.linalg.norm(at[pairs[:, 0]] - at[pairs[:, 1]], axis=1)
        yield 2 * kinetic / (unit.MOLAR_GAS_CONSTANT_R * unit.kelvin) / freedom, total, lengths


def run(arguments: argparse.Namespace) -> int:
    """Minimise, equilibrate, run, report."""
    topology, xyz = read_sdf(arguments.sdf)
    system = app.ForceField(arguments.xml).createSystem(topology, constraints=None, removeCMMotion=False)
    target = arguments.temperature
    integrator = openmm.LangevinMiddleIntegrator(target, FRICTION, STEP / 1000)
    integrator.setRandomNumberSeed(arguments.seed)
    simulation = app.Simulation(topology, system, integrator, openmm.Platform.getPlatform("Reference"))
    simulation.context.setPositions(xyz * unit.angstrom)
    simulation.minimizeEnergy()
    simulation.context.setVelocitiesToTemperature(target, arguments.seed)
    simulation.step(round(equilibration(arguments.ps, FRICTION) * 1000 / STEP))
    steps = round(arguments.ps * 1000 / STEP)
    if arguments.trajectory:
        frames = max(1, steps // 100)
        simulation.reporters.append(app.PDBReporter(arguments.trajectory, frames, enforcePeriodicBox=False))

    pairs, lengths = equilibrium_bonds(system)
    temperatures, stretch = [], np.zeros(len(pairs))
    for temperature, _, at in watch(simulation.context, simulation.step, steps, pairs):
        temperatures.append(temperature)
        stretch = np.fmax(stretch, np.abs(at - lengths))

    mean, spread, freedom = float(np.mean(temperatures)), float(np.std(temperatures)), 3 * system.getNumParticles()
    expected = target * math.sqrt(2 / freedom)
    print(f"{arguments.ps:g} ps of Langevin dynamics, {system.getNumParticles()} atoms, no constraints")
    print(f"temperature {mean:.1f} ± {spread:.1f} K (target {target:g} K; canonical spread {expected:.1f} K)")
    if len(pairs):
        names = [atom.name for atom in topology.atoms()]
        i, j = pairs[worst := int(np.argmax(stretch))]
        print(
            f"largest bond deviation {stretch[worst]:.3f} Å ({names[i]}-{names[j]}, equilibrium {lengths[worst]:.3f} Å)"
        )
    if arguments.trajectory:
        print(f"wrote {arguments.trajectory}")
    stable = (
        is_at_temperature(mean, target, freedom, arguments.ps, FRICTION) and stretch.max(initial=0) < LARGEST_STRETCH
    )
    if not stable:
        print("error: the run is not stable", file=sys.stderr)
    return 0 if stable else 1


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("xml", help="OpenMM ForceField XML of the ligand")
    parser.add_argument("sdf", help="the ligand with coordinates")
    parser.add_argument("--ps", type=float, default=20.0, help="length [ps]")
    parser.add_argument("--temperature", type=float, default=300.0, help="target [K]")
    parser.add_argument("--seed", type=int, default=1, help="of velocities and noise")
    parser.add_argument("--trajectory", help="write 100 frames to this PDB")
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
