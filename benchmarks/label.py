"""What labels cost: python benchmarks/label.py [--calculator aimnet2] [--geometries 1500] [--rounds 2] [--json FILE]

Labels distorted geometries of a molecule of 25 and one of 45 atoms by `espalike label` with one worker, and by plain
calls of the calculator's `batch` on the same geometries, in turn. Times are of the processor, all processes of
`espalike label` together. `share` is its rate relative to plain calls; `with start` counts its start
and the writing of the store too, which matter less the more geometries there are. Memory is the peak of the larger
process, for a few geometries and for all.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from rich.console import Console
from rich.table import Table

from espalike.chem import embed, from_smiles
from espalike.chem.bonds import intact
from espalike.qm.base import Calculator, batched

MOLECULES = {25: "CC(=O)OCCc1ccc(O)cc1", 45: "CN(C)CCCC1(c2ccc(F)cc2)OCc2cc(C#N)ccc12"}
FEW, BATCH = 64, 64


def geometries(atoms: int, count: int) -> np.ndarray:
    """Distorted conformers [Å] `(count, A, 3)` in which no bond is broken."""
    molecule = from_smiles(MOLECULES[atoms])
    rng = np.random.default_rng(0)
    minima = embed(molecule, 8, seed=1)
    kept: list[np.ndarray] = []
    while len(kept) < count:
        xyz = minima[rng.integers(len(minima))] + rng.normal(0, 0.03, minima.shape[1:])
        if intact(molecule, xyz):
            kept.append(xyz)
    return np.array(kept, dtype=np.float32).astype(np.float64)


def write_input(path: Path, atoms: int, xyz: np.ndarray) -> None:
    molecule = from_smiles(MOLECULES[atoms])
    with h5py.File(path, "w") as file:
        file.attrs.update(units="coords Angstrom; energies kcal/mol; forces kcal/mol/Angstrom", level_of_theory="none")
        group = file.create_group("molecule")
        group.attrs.update(smiles=molecule.smiles, charge=molecule.net_charge, split="train")
        group["atomic_numbers"], group["coords"] = molecule.numbers, xyz.astype(np.float32)


def plain(calculator: Calculator, atoms: int, xyz: np.ndarray) -> float:
    """Time of the processor for a label by plain calls [s]."""
    molecule = from_smiles(MOLECULES[atoms])
    batched(calculator, molecule, xyz[:2])
    start = time.process_time()
    for k in range(0, len(xyz), BATCH):
        batched(calculator, molecule, xyz[k : k + BATCH])
    return (time.process_time() - start) / len(xyz)


def labelled(calculator: str, source: Path, out: Path, count: int) -> tuple[float, float]:
    """Time of the processor [s] and peak memory [MB] of `espalike label`."""
    command = [sys.executable, "-m", "espalike.cli.label", f"calculator={calculator}", f"input={source}", f"out={out}"]
    command += ["sampler=etkdg", "sampler.minimise=0", f"sampler.frames={count}"]
    command += ["calculator@sampler.calculator=mmff94", f"chunk={BATCH}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def measure(name: str, calculator: Calculator, atoms: int, count: int, rounds: int, work: Path) -> dict:
    """Figures of one molecule."""
    xyz = geometries(atoms, count)
    write_input(work / f"{atoms}.h5", atoms, xyz)
    write_input(work / f"few-{atoms}.h5", atoms, xyz[:FEW])
    rows = []
    for i in range(rounds):
        few, few_memory = labelled(name, work / f"few-{atoms}.h5", work / f"few-{atoms}-{i}", FEW)
        before = plain(calculator, atoms, xyz[: count // 2])
        total, memory = labelled(name, work / f"{atoms}.h5", work / f"all-{atoms}-{i}", count)
        raw = (before + plain(calculator, atoms, xyz[count // 2 :])) / 2
        each = (total - few) / (count - FEW)
        rows.append((raw, each, total / count, few_memory, memory))
    raw, each, whole, few_memory, memory = (statistics.median(column) for column in zip(*rows, strict=True))
    return {
        "atoms": atoms, "labels_per_core_hour": 3600 / each, "raw_ms": 1e3 * raw, "label_ms": 1e3 * each,
        "share": raw / each, "share_with_start": raw / whole, "few_mb": few_memory, "all_mb": memory,
    }  # fmt: skip


def show(rows: list[dict], title: str) -> None:
    table = Table(title=title)
    for column in ("atoms", "labels/h/core", "plain ms", "label ms", "share", "with start", f"MB ({FEW})", "MB (all)"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            str(row["atoms"]), f"{row['labels_per_core_hour']:.0f}", f"{row['raw_ms']:.1f}", f"{row['label_ms']:.1f}",
            f"{row['share']:.0%}", f"{row['share_with_start']:.0%}", f"{row['few_mb']:.0f}", f"{row['all_mb']:.0f}",
        )  # fmt: skip
    Console(width=110).print(table)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calculator", default="aimnet2", help="of `espalike label` (default %(default)s)")
    parser.add_argument("--geometries", type=int, default=1500, help="of each molecule (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="medians over these (default %(default)s)")
    parser.add_argument("--atoms", type=int, nargs="+", default=sorted(MOLECULES), choices=sorted(MOLECULES))
    parser.add_argument("--json", type=Path, help="also write the figures here")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with initialize_config_module("espalike.configs", version_base=None):
        calculator = instantiate(
            compose("label", [f"calculator={given.calculator}", "input=none", "out=none"]).calculator
        )
    with tempfile.TemporaryDirectory() as work:
        rows = [
            measure(given.calculator, calculator, atoms, given.geometries, given.rounds, Path(work))
            for atoms in given.atoms
        ]
    show(rows, f"{calculator.level}: {given.geometries} geometries, milliseconds of the processor per label")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
