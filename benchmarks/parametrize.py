"""What parametrization costs: python benchmarks/parametrize.py [--rounds 5] [--atoms 2634 10000] [--json FILE]

Drug-like molecules (43 atoms on average) with coordinates, each once, are read from an SDF, parametrized and written
with their SDF and PDB, in one process of one thread. Formats take turns with OpenFF 2.2.1 with charges of NAGL (its
parameters and serialized `openmm.System` of some of the molecules). Cold starts are whole processes. Proteins are
chains of the twenty amino acids. Times are medians of the processor; on a machine with other work, compare ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from druglike import MOLECULES
from rdkit import Chem
from rich.console import Console
from rich.table import Table

from espalike import chem, model
from espalike.export import ligands

FORMATS = ("system", "ffxml", "gromacs", "amber", "lammps", "offxml")
SEQUENCE = "ACDEFGHIKLMNPQRSTVWY"
REFERENCE = "OpenFF + NAGL"


def write_sdf(path: Path, count: int) -> None:
    """The first molecules as an SDF."""
    with Chem.SDWriter(str(path)) as writer:
        for number, smiles in enumerate(MOLECULES[:count]):
            molecule = chem.from_smiles(smiles, f"drug-{number}")
            writer.write(chem.to_rdkit(molecule, chem.embed(molecule)[0]))


def run(entries, made: model.ForceFieldModel, folder: str, format: str) -> list[ligands.Result]:
    """Parametrize and write molecules as the command does, to a new folder: file systems may flush replaced files."""
    charges = ligands.charge_source("model", made, 1)
    output = ligands.Output(Path(tempfile.mkdtemp(dir=folder)), (format,))
    results = [done.result for done in ligands.parametrize(entries, made, model.DEFAULT, charges, output)]
    for result in results:
        if result.status != "ok":
            raise SystemExit(f"{result.name}: {result.reason}")
    return results


def timed(job: Callable[[], object]) -> tuple[float, float]:
    """Time of the processor and of the clock [s]."""
    cpu, clock = time.process_time(), time.perf_counter()
    job()
    return time.process_time() - cpu, time.perf_counter() - clock


def openff_job(count: int) -> Callable[[], object] | None:
    """Parameters of OpenFF 2.2.1 with NAGL's charges for `count` molecules; None where OpenFF is not installed."""
    try:
        from openff.toolkit import ForceField, Molecule
        from openff.units import unit

        from espalike.assigners.openff import OpenFFAssigner

        assigner, field = OpenFFAssigner(), ForceField("openff-2.2.1.offxml")
    except ImportError as error:
        print(f"{REFERENCE}: skipped, {error}")
        return None
    import openmm

    # the toolkit asks every object in memory for its module, this one of torch too
    warnings.filterwarnings("ignore", ".*torch.distributed.reduce_op", FutureWarning)
    molecules = [chem.from_smiles(smiles) for smiles in MOLECULES[:count]]

    def job() -> None:
        for molecule in molecules:
            other = Molecule.from_mapped_smiles(molecule.smiles, allow_undefined_stereo=True)
            other.partial_charges = unit.Quantity(assigner.reference(molecule)[0], unit.elementary_charge)
            system = field.create_openmm_system(other.to_topology(), charge_from_molecules=[other])
            openmm.XmlSerializer.serialize(system)

    return job


def batches(formats: list[str], count: int, rounds: int, with_openff: bool) -> dict[str, dict[str, float]]:
    """Milliseconds per molecule of each format, and of OpenFF."""
    made, few = model.load().double(), min(count, 4)
    with tempfile.TemporaryDirectory() as folder:
        sdf = Path(folder) / "molecules.sdf"
        write_sdf(sdf, count)
        jobs = {name: (count, lambda name=name: run(ligands.read([sdf]), made, folder, name)) for name in formats}
        if with_openff and (reference := openff_job(few)) is not None:
            jobs[REFERENCE] = (few, reference)
        for _, job in jobs.values():
            job()
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
        for _ in range(rounds):
            for name, (_, job) in jobs.items():
                times[name].append(timed(job))
    result = {}
    for name, rows in times.items():
        cpu, clock = (1e3 * statistics.median(column) / jobs[name][0] for column in zip(*rows, strict=True))
        result[name] = {"cpu_ms": cpu, "clock_ms": clock}
    if REFERENCE in result:
        for row in result.values():
            row["ratio"] = result[REFERENCE]["cpu_ms"] / row["cpu_ms"]
    return result


def process(command: list[str]) -> tuple[float, float]:
    """Time of the processor and of the clock of a process [s]."""
    clock = time.perf_counter()
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    _, status, usage = os.wait4(started.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - clock


def cold(rounds: int) -> dict[str, float]:
    """Seconds of `espalike parametrize one.sdf` and of an import of torch, whole processes in turn."""
    with tempfile.TemporaryDirectory() as folder:
        sdf = Path(folder) / "one.sdf"
        write_sdf(sdf, 1)
        command = [sys.executable, "-m", "espalike", "parametrize", str(sdf), "--out", folder]
        rows = [(process([sys.executable, "-c", "import torch"]), process(command)) for _ in range(rounds)]
    torch_cpu, cpu = (statistics.median(row[i][0] for row in rows) for i in (0, 1))
    torch_clock, clock = (statistics.median(row[i][1] for row in rows) for i in (0, 1))
    return {"torch_cpu_s": torch_cpu, "cpu_s": cpu, "torch_clock_s": torch_clock, "clock_s": clock}


def chain(atoms: int) -> Chem.Mol:
    """A chain of all amino acids in turn, of about that many atoms."""
    twenty = Chem.AddHs(Chem.MolFromSequence(SEQUENCE)).GetNumAtoms() - 3
    residues = round(atoms / twenty * len(SEQUENCE))
    return Chem.AddHs(Chem.MolFromSequence((SEQUENCE * (residues // len(SEQUENCE) + 1))[:residues]))


def protein(atoms: int, format: str) -> dict[str, float]:
    """Seconds and memory of one chain; for a process of its own. Its coordinates are random."""
    made, mol = model.load().double(), chain(atoms)
    with tempfile.TemporaryDirectory() as folder:
        run([("", chem.Entry("water", chem.from_smiles("O"), xyz=np.eye(3)))], made, folder, format)
        read_cpu, _ = timed(lambda: chem.from_rdkit(mol, "chain"))
        molecule = chem.from_rdkit(mol, "chain")
        xyz = np.random.default_rng(0).uniform(0.0, 99.0, (molecule.n_atoms, 3))
        cpu, clock = timed(lambda: run([("", chem.Entry("chain", molecule, xyz=xyz))], made, folder, format))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"atoms": molecule.n_atoms, "read_s": read_cpu, "cpu_s": cpu, "clock_s": clock, "peak_mb": peak}


def proteins(atoms: list[int], formats: list[str]) -> list[dict]:
    """One process for each chain and format."""
    rows = []
    for format in formats:
        for size in atoms:
            command = [sys.executable, __file__, "--one", str(size), format]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            failed = {"failed": (done.stderr.strip().splitlines() or ["no output"])[-1]}
            rows.append({"format": format, **(failed if done.returncode else json.loads(done.stdout))})
    return rows


def show(result: dict) -> None:
    console = Console(width=120, markup=False)
    table = Table(
        "written", "CPU [ms/molecule]", "clock [ms/molecule]", f"{REFERENCE} / this", title="drug-like molecules"
    )
    for name, row in result["batches"].items():
        ratio = f"{row['ratio']:.1f}" if "ratio" in row else "–"
        table.add_row(name, f"{row['cpu_ms']:.2f}", f"{row['clock_ms']:.2f}", ratio)
    console.print(table)
    table = Table("process", "CPU [s]", "clock [s]", title="cold start")
    if start := result["cold"]:
        table.add_row("python -c 'import torch'", f"{start['torch_cpu_s']:.2f}", f"{start['torch_clock_s']:.2f}")
        table.add_row("espalike parametrize one.sdf", f"{start['cpu_s']:.2f}", f"{start['clock_s']:.2f}")
        console.print(table)
    table = Table("format", "atoms", "graph [s]", "CPU [s]", "clock [s]", "peak [MB]", title="proteins")
    for row in result["proteins"]:
        figures = ("read_s", "cpu_s", "clock_s")
        numbers = [f"{row[name]:.2f}" for name in figures] + [f"{row['peak_mb']:.0f}"] if "cpu_s" in row else []
        table.add_row(row["format"], str(row.get("atoms", row.get("failed"))), *numbers)
    if result["proteins"]:
        console.print(table)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=FORMATS)
    parser.add_argument("--molecules", type=int, default=len(MOLECULES), help="in a batch (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="medians over these (default %(default)s)")
    parser.add_argument("--starts", type=int, default=3, help="cold starts (default %(default)s; 0: none)")
    parser.add_argument("--atoms", type=int, nargs="*", default=[2634, 10000], help="of the proteins")
    parser.add_argument("--no-openff", action="store_true", help="leave out OpenFF")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--one", nargs=2, metavar=("ATOMS", "FORMAT"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if given.one:
        print(json.dumps(protein(int(given.one[0]), given.one[1])))
        return 0
    result = {
        "load": os.getloadavg()[0],
        "batches": batches(given.formats, given.molecules, given.rounds, not given.no_openff),
        "cold": cold(given.starts) if given.starts else {},
        "proteins": proteins(given.atoms, given.formats),
    }
    show(result)
    print(f"load of the machine: {result['load']:.1f} on {os.cpu_count()} CPUs")
    if given.json:
        given.json.write_text(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
