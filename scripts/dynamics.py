"""Langevin dynamics of one ligand from an OpenMM ForceField XML; needs OpenMM and RDKit only.

python scripts/dynamics.py ligand.xml ligand.sdf [--ps 20] [--temperature 300] [--trajectory dynamics.pdb]

Prints the temperature (mean ± standard deviation, beside what the canonical ensemble says) and the largest deviation
of a bond from its equilibrium length. Exit status 1 when the run is not stable.
"""

import argparse
import math
import sys
from collections.abc import Iterator

import numpy as np
import openmm
from openmm import app, unit
from rdkit import Chem

STEP = 0.5 * unit.femtoseconds  # no constraints: bonds to hydrogen vibrate with a period of 10 fs
EVERY = 20  # steps between samples
LARGEST_STRETCH = 0.5  # Å; beyond it a bond is broken


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
    """Run, and give every so many steps the temperature [K], total energy [kcal/mol] and lengths of pairs [Å].

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
    """Minimise, equilibrate for a tenth of the time, run, report."""
    topology, xyz = read_sdf(arguments.sdf)
    system = app.ForceField(arguments.xml).createSystem(topology, constraints=None, removeCMMotion=False)
    target = arguments.temperature
    integrator = openmm.LangevinMiddleIntegrator(target * unit.kelvin, 5 / unit.picosecond, STEP)
    integrator.setRandomNumberSeed(arguments.seed)
    simulation = app.Simulation(topology, system, integrator, openmm.Platform.getPlatform("Reference"))
    simulation.context.setPositions(xyz * unit.angstrom)
    simulation.minimizeEnergy()
    simulation.context.setVelocitiesToTemperature(target * unit.kelvin, arguments.seed)
    steps = round(arguments.ps * unit.picoseconds / STEP)
    simulation.step(steps // 10)
    if arguments.trajectory:
        frames = max(1, steps // 100)
        simulation.reporters.append(app.PDBReporter(arguments.trajectory, frames, enforcePeriodicBox=False))

    pairs, lengths = equilibrium_bonds(system)
    temperatures, stretch = [], np.zeros(len(pairs))
    for temperature, _, at in watch(simulation.context, simulation.step, steps, pairs):
        temperatures.append(temperature)
        stretch = np.fmax(stretch, np.abs(at - lengths))

    mean, spread = float(np.mean(temperatures)), float(np.std(temperatures))
    expected = target * math.sqrt(2 / (3 * system.getNumParticles()))
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
    stable = abs(mean - target) < 0.1 * target and (not len(pairs) or stretch.max() < LARGEST_STRETCH)
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
