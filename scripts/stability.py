"""Gas-phase dynamics of many molecules: does anything explode, does any bond break, is energy kept?

python scripts/stability.py MODEL... [--ps 100] [--temperatures 300 500] [--molecules 30] [--out runs/stability]

For every model (a shipped name or a model file) and molecule of stability.smi: Langevin dynamics at each temperature
(friction 1/ps, no constraints, steps of 0.5 fs or --step) after equilibration; and one NVE leg of 10 ps at 0.5 fs in
double precision, started from 300 K, ten times as long if its energy seems to drift. A run fails if a number is not
finite, the mean temperature is off by more than 5 % and five standard errors (see dynamics.py), a bond exceeds 1.5
times its equilibrium length, or the NVE energy drifts by more than 0.2 kcal/mol/ns per atom.

Each run is a line of OUT/runs.jsonl; runs found there are not repeated. Exit status 1 when any run failed.
"""

import argparse
import hashlib
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from dynamics import equilibration, is_at_temperature, watch  # the script beside this one
from openmm import unit
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from espalike import chem
from espalike.chem.molecule import Molecule
from espalike.export import to_openmm
from espalike.model import DomainError, ForceFieldModel, find, load
from espalike.system import MMSystem
from espalike.tuples import Kind

LONGEST = 1.5  # times equilibrium; a longer bond is broken
LARGEST_DRIFT = 0.2  # kcal/mol/ns per atom
FRICTION = 1.0  # 1/ps
NVE_PS, NVE_STEP = 10.0, 0.5  # ps, fs
NVE = "NVE"
BOLTZMANN = unit.MOLAR_GAS_CONSTANT_R.value_in_unit(unit.kilocalories_per_mole / unit.kelvin)


class Broken(Exception):
    """A run that is not stable, with its reason."""


def equilibrium(system: MMSystem, built: openmm.System, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bonds, their equilibrium lengths [Å] and the minimised geometry [Å].

    Lengths are the r0 of the model's bond term; where it has none, those of the minimum.
    """
    context = openmm.Context(built, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    context.setPositions(xyz * unit.angstrom)
    openmm.LocalEnergyMinimizer.minimize(context, 1.0, 1000)
    xyz = context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.angstrom)
    pairs = system.molecules[0].bonds
    lengths = np.linalg.norm(xyz[pairs[:, 0]] - xyz[pairs[:, 1]], axis=1)
    for bound in system.terms:
        names = [param.name for param in bound.term.params]
        if bound.term.kind is Kind.BOND and "r0" in names:
            keys = [tuple(sorted(pair)) for pair in bound.tuples.idx.tolist()]
            by_pair = dict(zip(keys, bound.values[:, names.index("r0")].tolist(), strict=True))
            lengths = np.array([by_pair[tuple(pair)] for pair in pairs.tolist()])
    return pairs, lengths, xyz


def faster_platform(model: ForceFieldModel, molecule: Molecule) -> str:
    """`Reference` or `CPU` with one thread, whichever steps this molecule for less processor time."""
    built, xyz = to_openmm(model.parametrize(molecule)), chem.embed(molecule)[0]
    seconds = {}
    for name in ("CPU", "Reference"):
        integrator = openmm.VerletIntegrator(1e-6)
        context = new_context(built, integrator, name, xyz)
        integrator.step(20)
        start = time.process_time()
        integrator.step(200)
        context.getState(energy=True)
        seconds[name] = time.process_time() - start
    return min(seconds, key=lambda name: seconds[name])


def new_context(built: openmm.System, integrator: openmm.Integrator, platform: str, xyz: np.ndarray) -> openmm.Context:
    """A context on one thread."""
    options = {"Threads": "1"} if platform == "CPU" else {}
    context = openmm.Context(built, integrator, openmm.Platform.getPlatform(platform), options)
    context.setPositions(xyz * unit.angstrom)
    return context


def stretched(at: np.ndarray, lengths: np.ndarray) -> float:
    """The longest bond relative to its equilibrium; a broken one ends the run."""
    longest = float((at / lengths).max())
    if not longest < LONGEST:
        raise Broken(f"a bond reached {longest:.2f} times its equilibrium length")
    return longest


def langevin(built, xyz, pairs, lengths, temperature: float, ps: float, fs: float, platform: str) -> dict[str, Any]:
    """Temperature and longest bond over a Langevin run."""
    integrator = openmm.LangevinMiddleIntegrator(temperature, FRICTION, fs / 1000)
    integrator.setRandomNumberSeed(1)
    context = new_context(built, integrator, platform, xyz)
    context.setVelocitiesToTemperature(temperature * unit.kelvin, 1)
    longest, temperatures = 0.0, []
    for _, _, at in watch(context, integrator.step, round(equilibration(ps, FRICTION) * 1000 / fs), pairs):
        longest = max(longest, stretched(at, lengths))
    for kinetic, _, at in watch(context, integrator.step, round(ps * 1000 / fs), pairs):
        longest = max(longest, stretched(at, lengths))
        temperatures.append(kinetic)
    mean = statistics.fmean(temperatures)
    if not is_at_temperature(mean, temperature, 3 * len(xyz), ps, FRICTION):
        raise Broken(f"mean temperature {mean:.0f} K at {temperature:g} K")
    return {"temperature": mean, "spread": statistics.pstdev(temperatures), "longest": longest}


def nve(built, xyz, pairs, lengths, ps: float) -> dict[str, Any]:
    """Drift of the total energy at constant energy, in double precision."""
    heat = openmm.LangevinMiddleIntegrator(300 * unit.kelvin, 5 / unit.picosecond, 0.5 * unit.femtoseconds)
    heat.setRandomNumberSeed(2)
    context = new_context(built, heat, "Reference", xyz)
    heat.step(4000)
    state = context.getState(positions=True, velocities=True)
    verlet = openmm.VerletIntegrator(NVE_STEP * unit.femtoseconds)
    context = openmm.Context(built, verlet, openmm.Platform.getPlatform("Reference"))
    context.setState(state)
    longest, energies, length = 0.0, [], 0.0
    for more in (ps, 9 * ps):  # the fluctuation of Verlet's energy can look like a drift over 10 ps; not over 100 ps
        for _, total, at in watch(context, verlet.step, round(more * 1000 / NVE_STEP), pairs):
            longest = max(longest, stretched(at, lengths))
            energies.append(total)
        length += more
        slope = float(np.polyfit(np.linspace(0.0, length / 1000, len(energies)), energies, 1)[0]) / len(xyz)
        if abs(slope) < LARGEST_DRIFT:
            break
    else:
        raise Broken(f"energy drifts by {slope:+.2f} kcal/mol/ns per atom over {length:g} ps")
    spread = statistics.pstdev(energies) / len(xyz)
    drift = {"drift": slope, "drift_kelvin": slope / (1.5 * BOLTZMANN), "fluctuation": spread}
    return drift | {"nve_ps": length, "longest": longest}


def label(name: str) -> str:
    """Name of a model in the table: its file's stem, or its folder's name if the file is called model.espalike."""
    path = Path(name)
    return path.parent.name if path.stem == "model" else path.stem


def legs(arguments: argparse.Namespace) -> list[float | str]:
    """The runs of every molecule: temperatures [K], and the NVE leg."""
    return [*arguments.temperatures, NVE]


def run_molecule(
    model: ForceFieldModel, molecule: Molecule, remaining: list[float | str], arguments, platform: str | None
):
    """The runs of one molecule, one record each."""
    try:
        system = model.parametrize(molecule)
    except DomainError as error:
        yield from ({"leg": leg, "status": "outside", "reason": str(error)} for leg in remaining)
        return
    built = to_openmm(system)
    pairs, lengths, xyz = equilibrium(system, built, chem.embed(molecule)[0])
    for leg in remaining:
        start = time.perf_counter()
        record: dict[str, Any] = {"leg": leg, "atoms": molecule.n_atoms, "status": "ok", "platform": platform}
        try:
            if leg == NVE:
                record |= nve(built, xyz, pairs, lengths, arguments.nve_ps) | {"platform": "Reference"}
            else:
                record |= langevin(built, xyz, pairs, lengths, leg, arguments.ps, arguments.step, platform)
        except (Broken, openmm.OpenMMException) as error:  # OpenMM's is "Particle coordinate is NaN"
            record |= {"status": "failed", "reason": str(error)}
        yield record | {"seconds": round(time.perf_counter() - start, 2)}


def key(model: str, molecule: Molecule, leg: float | str, arguments: argparse.Namespace) -> str:
    """Hash of everything that a run depends on; a run with the same key is not repeated."""
    run = (arguments.ps, arguments.step, equilibration(arguments.ps, FRICTION))
    settings = (arguments.nve_ps, NVE_STEP) if leg == NVE else (leg, *run)
    return hashlib.sha256(repr((model, molecule.smiles, settings)).encode()).hexdigest()[:16]


def run(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """All runs, including those of an earlier call."""
    molecules = [entry.molecule for entry in chem.read_molecules(arguments.input)][: arguments.molecules]
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "runs.jsonl"
    done = {r["key"]: r for r in map(json.loads, file.read_text().splitlines())} if file.is_file() else {}
    records = []
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        for name in arguments.models:
            bar = progress.add_task(label(name), total=len(molecules) * len(legs(arguments)))
            model, digest = load(name).double(), hashlib.sha256(find(name).read_bytes()).hexdigest()
            platform = arguments.platform or faster_platform(model, max(molecules, key=lambda m: m.n_atoms))
            for molecule in molecules:
                keys = {leg: key(digest, molecule, leg, arguments) for leg in legs(arguments)}
                records += [done[keys[leg]] | {"model": name} for leg in keys if keys[leg] in done]
                remaining = [leg for leg in keys if keys[leg] not in done]
                for record in run_molecule(model, molecule, remaining, arguments, platform) if remaining else ():
                    row = {"key": keys[record["leg"]], "model": name, "molecule": molecule.name, **record}
                    with open(file, "a") as stream:
                        stream.write(json.dumps(row) + "\n")
                    records.append(row)
                progress.update(bar, advance=len(keys))
    return records


def show(records: list[dict[str, Any]], arguments: argparse.Namespace, console: Console) -> None:
    """Print a table with a line per model and leg, then every run that failed."""
    table = Table("model", "leg", "stable", "T [K]", "longest bond", "drift [kcal/mol/ns/atom]", "[K/ns]", "seconds")
    for name in arguments.models:
        for leg in legs(arguments):
            rows = [r for r in records if r["model"] == name and r["leg"] == leg]
            good = [r for r in rows if r["status"] == "ok"]
            outside = sum(r["status"] == "outside" for r in rows)
            count = f"{len(good)} of {len(rows) - outside}" + (f" ({outside} outside the domain)" if outside else "")
            cells = [""] * 4
            if good:
                worst = max(good, key=lambda r: r["longest"])
                cells[1] = f"{worst['longest']:.2f} {worst['molecule']}"
            if good and leg == NVE:
                drifts = sorted((r["drift"] for r in good), key=abs)
                middle = statistics.median(map(abs, drifts))
                cells[2] = f"median {middle:.3f}, worst {drifts[-1]:+.3f}"
                cells[3] = f"{middle / (1.5 * BOLTZMANN):.1f}, {drifts[-1] / (1.5 * BOLTZMANN):+.1f}"
            elif good:
                cells[0] = f"{statistics.fmean(r['temperature'] for r in good):.0f}"
            which = leg if leg == NVE else f"{arguments.ps:g} ps, {leg:g} K"
            table.add_row(label(name), which, count, *cells, f"{sum(r.get('seconds', 0) for r in rows):.0f}")
    console.print(table)
    for record in records:
        if record["status"] == "failed":
            console.print(
                f"failed: {label(record['model'])}, {record['molecule']}, {record['leg']}: {record['reason']}"
            )


def main() -> int:
    """Read the command line, run, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="shipped names or model files")
    parser.add_argument("--ps", type=float, default=100.0, help="length of a Langevin run [ps]")
    parser.add_argument("--step", type=float, default=0.5, help="its time step [fs]")
    parser.add_argument("--nve-ps", type=float, default=NVE_PS, help="length of the NVE leg [ps]")
    parser.add_argument("--temperatures", type=float, nargs="+", default=[300.0, 500.0], metavar="K")
    parser.add_argument("--molecules", type=int, default=30, help="how many of the input")
    parser.add_argument("--input", default=str(Path(__file__).with_suffix(".smi")), help="SMILES and names, or an SDF")
    parser.add_argument("--platform", help="OpenMM platform (default: the faster of Reference and CPU)")
    parser.add_argument("--out", type=Path, default=Path("runs/stability"), help="where runs.jsonl is kept")
    arguments = parser.parse_args()
    records = run(arguments)
    show(records, arguments, Console(width=max(Console().width, 130)))
    counts = {status: sum(r["status"] == status for r in records) for status in ("ok", "failed")}
    print(f"{counts['ok']} of {sum(counts.values())} runs stable; all runs: {arguments.out / 'runs.jsonl'}")
    return 1 if counts["failed"] or not counts["ok"] else 0


if __name__ == "__main__":
    sys.exit(main())
