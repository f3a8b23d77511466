"""Multiple time steps: how far the outer step of an ML potential can be when a force field carries the fast forces.

python benchmarks/time_steps.py [--potential aimnet2] [--models espalike-1,espalike-2] [--molecules ethanol,…]
                                [--outer 2,4,6,8] [--inner 0.5] [--reference 0.5] [--friction 1] [--picoseconds 5]
                                [--copies 1] [--json FILE]

For each molecule, Langevin dynamics at 300 K on the potential alone (`--reference` fs per step), then with a force
field as the inner force at each outer step. With --copies, several copies
of the molecule move at the same time, far from each other: more data for the same number of calls, but the speed-up is
then not that of one molecule. Reported per run: calls of the potential per
ps; speed-up over the reference by processor time per ps; differences of the means of bonds, angles and of the potential
energy from the reference; the distance of the torsions' distributions (total variation, 10° bins, mean over torsions);
and the temperature. The row `reference again` (another seed) says how large these are by chance.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from openmm import app, unit
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import espalike
from espalike.chem import embed
from espalike.files import write
from espalike.hybrid import multiple_time_step
from espalike.potential import Difference, ForceFieldCalculator, force_of, potential
from espalike.qm.base import CalculatorError, batched

MOLECULES = {
    "ethanol": "CCO",
    "N-methylacetamide": "CC(=O)NC",
    "alanine dipeptide": "CC(=O)N[C@@H](C)C(=O)NC",
    "paracetamol": "CC(=O)Nc1ccc(O)cc1",
    "N-methylmethanesulfonamide": "CNS(C)(=O)=O",
}
TEMPERATURE, EQUILIBRATION = 300.0, 0.2
"""K, and the share of a run that is left out at its start."""
APART = 1000.0
"""Distance of neighbouring copies [Å]."""
COLUMNS = ("calls/ps", "speed-up", "bonds [mÅ]", "angles [°]", "energy [kcal/mol]", "torsions", "T [K]")


class Copies:
    """A calculator for copies of a molecule, one after the other, that do not see each other.

    Args:
        calculator: of one molecule.
    """

    def __init__(self, calculator):
        self.calculator, self.level, self.program = calculator, calculator.level, calculator.program

    def __call__(self, molecule, xyz: np.ndarray) -> tuple[float, np.ndarray]:
        """Energy [kcal/mol] and forces [kcal/mol/Å] of all copies."""
        energies, forces = batched(self.calculator, molecule, xyz.reshape(-1, molecule.n_atoms, 3))
        return float(energies.sum()), forces.reshape(-1, 3)


def plain(calculator, molecule, args) -> tuple[openmm.System, openmm.Integrator]:
    """The potential alone, with the same integrator: one inner step per outer step."""
    system = openmm.System()
    for mass in np.tile(molecule.masses(), args.copies):
        system.addParticle(mass)
    system.addForce(force_of(Copies(calculator), molecule))
    return system, openmm.MTSLangevinIntegrator(TEMPERATURE, args.friction, args.reference * 1e-3, [(0, 1)])


def side_by_side(parameters, copies: int) -> openmm.System:
    """The force field for copies of its molecule."""
    topology = espalike.export.to_topology(parameters.molecules[0])
    positions = [openmm.Vec3(0, 0, 0)] * topology.getNumAtoms() * unit.nanometer
    every = app.Modeller(topology, positions)
    for _ in range(copies - 1):
        every.add(topology, positions)
    text = espalike.export.texts(parameters, "ffxml")[".xml"]
    return app.ForceField(io.StringIO(text)).createSystem(every.topology, removeCMMotion=False)


def multiple(model, calculator, molecule, outer: float, args) -> tuple[openmm.System, openmm.Integrator]:
    """`espalike.hybrid.multiple_time_step` for copies of the molecule."""
    parameters = model.parametrize(molecule)
    steps = {"outer": outer, "inner": args.inner, "friction": args.friction}
    system, integrator = multiple_time_step(parameters, calculator, **steps)
    if args.copies > 1:
        system = side_by_side(parameters, args.copies)
        for force in system.getForces():
            force.setForceGroup(0)
        inner = ForceFieldCalculator(parameters, molecule)
        force = force_of(Copies(Difference(calculator, inner)), molecule)
        force.setForceGroup(1)
        system.addForce(force)
    return system, integrator


def run(both, calculator, molecule, step: float, picoseconds: float, seed: int, tick) -> dict[str, Any]:
    """Frames [Å], energies [kcal/mol] and temperature [K] of the copies, and seconds of the processor per ps."""
    (system, integrator), xyz = both, embed(molecule, 1)[0]
    integrator.setRandomNumberSeed(seed)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    copies = system.getNumParticles() // len(xyz)
    apart = np.arange(copies)[:, None, None] * [[[APART, 0.0, 0.0]]]
    context.setPositions((xyz + apart).reshape(-1, 3) / 10)
    context.setVelocitiesToTemperature(TEMPERATURE, seed)
    every = max(1, round(8.0 / step))
    frames, temperatures = [], []
    masses = np.tile(molecule.masses(), copies)[:, None]
    start = time.process_time()
    for _ in range(round(picoseconds * 1000 / (step * every))):
        integrator.step(every)
        state = context.getState(positions=True, velocities=True)  # energies would cost calls of the potential
        frames.append(state.getPositions(asNumpy=True)._value.reshape(copies, -1, 3) * 10)
        velocities = state.getVelocities(asNumpy=True)._value
        temperatures.append((masses * velocities**2).sum() / (3 * len(masses) * 8.31446e-3))
        tick(step * every / 1000)
    seconds = time.process_time() - start
    kept = slice(round(EQUILIBRATION * len(frames)), None)
    coordinates = np.array(frames)[kept].reshape(-1, len(xyz), 3)
    if not np.isfinite(coordinates).all():
        raise openmm.OpenMMException("coordinates that are not finite")
    return {
        "frames": coordinates,
        "energy": batched(calculator, molecule, coordinates)[0],
        "temperature": float(np.mean(temperatures[kept])),
        "seconds": seconds / picoseconds,
    }


def internal(system, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bonds [Å], angles [°] and torsions [°] of frames, shapes `(K, number)`, by RDKit-independent geometry."""

    def vectors(i, j):
        return frames[:, j] - frames[:, i]

    def degrees(u, v):
        cosine = (u * v).sum(-1) / np.linalg.norm(u, axis=-1) / np.linalg.norm(v, axis=-1)
        return np.degrees(np.arccos(np.clip(cosine, -1, 1)))

    bonds = next(b.tuples.idx for b in system.terms if b.tuples.idx.shape[1] == 2 and "Bond" in b.term.name).numpy().T
    angles = next(b.tuples.idx for b in system.terms if b.tuples.idx.shape[1] == 3).numpy().T
    proper = system.bound("PeriodicProper").tuples.idx.numpy()
    torsions = np.array([row for _, row in sorted({(min(r[1:3]), max(r[1:3])): r for r in proper.tolist()}.items())]).T
    i, j, k, l = torsions  # noqa: E741
    b1, b2, b3 = vectors(i, j), vectors(j, k), vectors(k, l)
    n1, n2 = np.cross(b1, b2), np.cross(b2, b3)
    sign = np.sign((n1 * b3).sum(-1))
    return (
        np.linalg.norm(vectors(*bonds), axis=-1),
        degrees(vectors(angles[1], angles[0]), vectors(angles[1], angles[2])),
        np.where(sign == 0, 1, sign) * degrees(n1, n2),
    )


def compare(system, result: dict[str, Any], reference: dict[str, Any], calls: float) -> dict[str, float]:
    """One row of the table."""
    bonds, angles, torsions = internal(system, result["frames"])
    bonds0, angles0, torsions0 = internal(system, reference["frames"])
    edges = np.linspace(-180, 180, 37)
    apart = []
    for one, other in zip(torsions.T, torsions0.T, strict=True):
        histograms = [np.histogram(x, edges)[0] / len(x) for x in (one, other)]
        apart.append(0.5 * np.abs(histograms[0] - histograms[1]).sum())
    values = (
        calls,
        reference["seconds"] / result["seconds"],
        1000 * np.abs(bonds.mean(0) - bonds0.mean(0)).max(),
        np.abs(angles.mean(0) - angles0.mean(0)).max(),
        result["energy"].mean() - reference["energy"].mean(),
        np.mean(apart),
        result["temperature"],
    )
    return dict(zip(COLUMNS, map(float, values), strict=True))


def measure(name: str, smiles: str, args: argparse.Namespace, rows: dict[str, Any], tick, save) -> None:
    """Adds all rows of a molecule, saved after each run; a run that explodes is None."""
    molecule = espalike.Molecule.from_smiles(smiles, name)
    calculator = potential(args.potential, molecule)
    models = {_label(model): espalike.load(model) for model in args.models}
    first = next(iter(models.values())).parametrize(molecule)

    def reference(seed: int) -> dict[str, Any]:
        both = plain(calculator, molecule, args)
        return run(both, calculator, molecule, args.reference, args.picoseconds, seed, tick)

    base = reference(1)
    rows["reference again"] = compare(first, reference(2), base, 1000 / args.reference)
    save()
    for label, model in models.items():
        for outer in args.outer:
            both = multiple(model, calculator, molecule, outer, args)
            try:
                result = run(both, calculator, molecule, outer, args.picoseconds, 3, tick)
                rows[f"{label}, {outer:g} fs"] = compare(first, result, base, 1000 / outer)
            except (openmm.OpenMMException, CalculatorError):  # coordinates that are not finite or not a molecule's
                rows[f"{label}, {outer:g} fs"] = None
            save()


def _label(model: str) -> str:
    """A file that is just called `model.espalike` has the name of its folder."""
    return Path(model).parent.name if Path(model).stem == "model" else Path(model).stem


def _names(text: str) -> list[str]:
    """Names of molecules, by commas."""
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in MOLECULES]:
        raise argparse.ArgumentTypeError(f"unknown {', '.join(unknown)}; molecules: {', '.join(MOLECULES)}")
    return names


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potential", default="aimnet2")
    parser.add_argument("--models", default="espalike-1,espalike-2", type=lambda text: text.split(","))
    parser.add_argument("--molecules", default=list(MOLECULES), type=_names, help=f"of {', '.join(MOLECULES)}")
    parser.add_argument("--outer", default="2,4,6,8", type=lambda text: [float(part) for part in text.split(",")])
    parser.add_argument("--inner", default=0.5, type=float)
    parser.add_argument("--reference", default=0.5, type=float)
    parser.add_argument("--friction", default=1.0, type=float)
    parser.add_argument("--picoseconds", default=5.0, type=float)
    parser.add_argument("--copies", default=1, type=int)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> int:
    import torch

    args = arguments()
    torch.set_num_threads(1)
    console = Console(width=120, markup=False)
    chosen = {name: MOLECULES[name] for name in args.molecules}
    total = len(chosen) * args.picoseconds * (2 + len(args.models) * len(args.outer))
    results: dict[str, Any] = {name: {} for name in chosen}

    def save() -> None:
        if args.json:
            about = {key: value for key, value in vars(args).items() if key != "json"}
            write(args.json, json.dumps({"settings": about, "molecules": results}, indent=1))

    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("ps", total=total)
        for name, smiles in chosen.items():
            measure(name, smiles, args, results[name], lambda ps: progress.advance(task, ps), save)
            table = Table("inner force, outer step", *COLUMNS, title=f"{name} on {args.potential}")
            for label, row in results[name].items():
                table.add_row(label, *(["unstable"] if row is None else [f"{row[column]:.3g}" for column in COLUMNS]))
            console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
