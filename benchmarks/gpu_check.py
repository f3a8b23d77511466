"""Training and labelling on a GPU: speed, share of the memory bandwidth, agreement with the CPU, memory; one table.

python benchmarks/gpu_check.py [--device cuda] [--minutes 9] [--json FILE]

Without a GPU, a small version runs on the CPU. Batches are drug-like molecules with random labels. A step is network,
energies and forces, loss, backward pass and Adam, as `espalike train` does it. `bf16-mixed`: the network in bfloat16,
the physics in float32. The bandwidth is that of a copy, measured in the same run; the share is that of writing and
reading the internal coordinates and B rows once in the time of the energy part. Errors are root mean square
differences from float64 on the CPU, relative to the root mean square of the values there.
Exit status 1: float64 or float32 on the device disagrees with the CPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from druglike import MOLECULES, embedded, labelled
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from train_step import FAST, Problem, network, peak, timed

from espalike import files
from espalike.batch import LabelledBatch
from espalike.chem import from_smiles
from espalike.qm.aimnet2 import AIMNet2Calculator

FORCE_FIELDS = ("class1", "class2")
LIMITS = {"float64": 1e-9, "float32": 1e-4}
"""Largest relative error of energies, forces and gradients that counts as agreement."""
TEACHER = "CCN(CC)CC(=O)Nc1c(C)cccc1C"
SIZES: Mapping[str, Mapping[str, Any]] = {
    "cuda": {"molecules": 32, "conformers": (32, 256, 1024), "width": 128, "labels": 2048, "copy": 2**30, "rounds": 15},
    "cpu": {"molecules": 4, "conformers": (8,), "width": 32, "labels": 8, "copy": 2**26, "rounds": 3},
}
"""Molecules and conformers of a step, width of the network, geometries to label, bytes to copy, repetitions."""

Row = dict[str, Any]
"""`check`, `case`, `results` by name and, for a check that can fail, `passed`."""


def mixed(on: bool, device: str) -> Any:
    """The context in which the network runs."""
    return torch.autocast(device, dtype=torch.bfloat16) if on else nullcontext()


def step(problem: Problem, bf16: bool) -> None:
    """A whole training step."""
    problem.optimizer.zero_grad(set_to_none=True)
    with mixed(bf16, problem.batch.x.device.type):
        system = problem.model(problem.batch)
    problem.differentiate(FAST, system)
    problem.optimizer.step()


def milliseconds(work: Callable[[], None], device: str, rounds: int) -> float:
    """Median time of some work, after two runs that are not counted."""
    for _ in range(2):
        timed(work, device)
    return 1e3 * statistics.median(timed(work, device) for _ in range(rounds))


def bandwidth(device: str, size: int, rounds: int) -> float:
    """Bytes per second that a copy reads and writes, the best of several."""
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / min(timed(lambda: target.copy_(source), device) for _ in range(rounds + 2))


def memory(work: Callable[[], None], device: str) -> float | None:
    """Largest growth of the memory in use during some work in bytes; None when the system does not report it."""
    if device == "cpu":
        return peak(work)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def steps(device: str, sizes: Mapping[str, Any], most: float) -> Iterator[Row]:
    """Speed and memory of training steps."""
    for forcefield in FORCE_FIELDS:
        for conformers in sizes["conformers"]:
            batch = labelled(MOLECULES[: sizes["molecules"]], conformers, torch.float32, device)
            problem = Problem.of(network(forcefield, sizes["width"], folded=False), batch)
            part = partial(problem.differentiate, FAST, problem.parameters())
            energy = milliseconds(part, device, sizes["rounds"])
            many = sizes["molecules"] * conformers
            for precision in ("float32", "bf16-mixed"):
                work = partial(step, problem, precision != "float32")
                took = milliseconds(work, device, sizes["rounds"])
                grown = memory(work, device)
                results = {
                    "step [ms]": took,
                    "conformers/s": 1e3 * many / took,
                    "energy part [ms]": energy,
                    "share of bandwidth [%]": 100.0 * 2 * problem.nbytes() / (1e-3 * energy) / most,
                    "memory [kB per conformer]": None if grown is None else grown / many / 1e3,
                }
                case = f"{forcefield}, {sizes['molecules']} molecules x {conformers}, {precision}"
                yield {"check": "training step", "case": case, "results": results}


def results_of(forcefield: str, width: int, batch: LabelledBatch, dtype: torch.dtype, bf16: bool) -> dict[str, Any]:
    """Energies, forces and gradients of the loss by the weights, in float64 on the CPU."""
    problem = Problem.of(network(forcefield, width, folded=False).to(batch.x.device, dtype), batch)
    with mixed(bf16, batch.x.device.type):
        system = problem.model(batch)
    prediction = problem.predicted(FAST, system)
    assert prediction.forces is not None
    problem.differentiate(FAST, system)
    gradients = [p.grad.flatten() for p in problem.model.parameters() if p.grad is not None]
    values = {"energies": prediction.energy, "forces": prediction.forces, "gradients": torch.cat(gradients)}
    return {name: value.detach().double().cpu() for name, value in values.items()}


def agreement(device: str, sizes: Mapping[str, Any]) -> Iterator[Row]:
    """Differences from float64 on the CPU."""
    for forcefield in FORCE_FIELDS:
        made = partial(labelled, MOLECULES[: sizes["molecules"]], 4)
        compute = partial(results_of, forcefield, sizes["width"])
        expected = compute(made(torch.float64, "cpu"), torch.float64, False)
        for precision, dtype in (("float64", torch.float64), ("float32", torch.float32), ("bf16-mixed", torch.float32)):
            values = compute(made(dtype, device), dtype, precision == "bf16-mixed")
            errors = {
                f"error of {name}": float((values[name] - value).norm() / value.norm())
                for name, value in expected.items()
            }
            row = {"check": f"{device} against CPU", "case": f"{forcefield}, {precision}", "results": errors}
            if precision in LIMITS:
                row["passed"] = max(errors.values()) < LIMITS[precision]
            yield row


def labels(device: str, sizes: Mapping[str, Any]) -> Iterator[Row]:
    """Rate of the teacher, and its agreement with the CPU."""
    molecule = from_smiles(TEACHER)
    case = f"AIMNet2, {molecule.n_atoms} atoms"
    try:
        teacher, reference = AIMNet2Calculator(device=device), AIMNet2Calculator()
    except FileNotFoundError as error:
        yield {"check": "labels", "case": case, "results": {"not measured": str(error)}}
        return
    xyz = embedded(molecule) + 0.05 * torch.randn(sizes["labels"], molecule.n_atoms, 3).double().numpy()
    few = xyz[:8]
    forces, expected = (calculator.batch(molecule, few)[1] for calculator in (teacher, reference))
    error = float(((forces - expected) ** 2).sum() / (expected**2).sum()) ** 0.5
    took = timed(lambda: teacher.batch(molecule, xyz), device)
    results = {"geometries/s": len(xyz) / took, "error of forces": error}
    yield {"check": "labels", "case": case, "results": results, "passed": error < LIMITS["float32"]}


def measured(device: str, minutes: float) -> Iterator[Row]:
    """All rows; those for which there is no time left are listed as such."""
    end, sizes = time.monotonic() + 60.0 * minutes, SIZES[device]
    most = bandwidth(device, sizes["copy"], sizes["rounds"])
    yield {"check": "bandwidth", "case": "copy", "results": {"GB/s": most / 1e9}}
    for name, rows in (
        ("agreement", agreement(device, sizes)),
        ("labels", labels(device, sizes)),
        ("training step", steps(device, sizes, most)),
    ):
        while time.monotonic() < end:
            if (row := next(rows, None)) is None:
                break
            yield row
        else:
            yield {"check": name, "case": "the others", "results": {"not measured": f"{minutes:g} minutes are over"}}


def show(rows: list[Row], title: str) -> None:
    """Print the table."""
    table = Table("check", "case", "result", "", title=title)
    for row in rows:
        cells = (
            f"{name} {value if isinstance(value, str) else '-' if value is None else f'{value:,.3g}'}"
            for name, value in row["results"].items()
        )
        verdict = {None: "", True: "agrees", False: "DIFFERS"}[row.get("passed")]
        table.add_row(row["check"], row["case"], escape("\n".join(cells)), verdict)
    Console(width=120, markup=False).print(table)


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=tuple(SIZES), help="default: cuda if torch finds a GPU, else cpu")
    parser.add_argument("--minutes", type=float, default=9.0, help="no new measurement begins after this time (9)")
    parser.add_argument("--json", metavar="FILE", help="write everything measured")
    arguments = parser.parse_args()
    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    rows = list(measured(device, arguments.minutes))
    show(rows, f"{name}, torch {torch.__version__}" + (" (no GPU: a small version)" if device == "cpu" else ""))
    if arguments.json:
        files.write(
            Path(arguments.json), json.dumps({"device": name, "torch": torch.__version__, "rows": rows}, indent=1)
        )
    return 0 if all(row.get("passed", True) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
