"""The cost of a training step: closed-form forces compared with double backward through positions, in one run.

python benchmarks/train_step.py [--forcefield class1] [--threads 1,2] [--rounds 15] [--scaling] [--json FILE]

A step is network, energies and forces, loss, backward pass and Adam, for 32 drug-like molecules (43 atoms on average)
with 32 geometries each, in single precision. All paths use the same network and the same batch. They take turns in
rounds; a ratio is the median over rounds of the ratio within a round.

  double backward   energies from positions, forces by autograd with a graph, the loss differentiated through both
  closed form       internal coordinates, Wilson B rows and slopes in closed form, which is what `espalike train` does

`folded`: the nonbonded terms are frozen, and their energies and forces were subtracted from the labels, which is how
comparable programs train. `all learned`: every term is computed in every step. The bandwidth floor is the time to read
the internal coordinates and B rows once from memory.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from druglike import MOLECULES, embedded, labelled, stretched
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from espalike import files
from espalike.batch import LabelledBatch
from espalike.energy import energy
from espalike.internal import CoordinateValues, coordinate_values, pooled_coordinates
from espalike.model import ForceFieldModel, from_config
from espalike.system import Bound, MMSystem, Prediction
from espalike.terms.base import PairTerm
from espalike.training.memory import keep_freed_memory
from espalike.training.objective import Objective

PATHS = ("double backward", "closed form")
FAST = PATHS[-1]
SETTINGS = ("folded", "all learned")
CONFORMERS = 32


def double_backward(system: MMSystem, xyz: Tensor) -> Prediction:
    """Energies, and forces by autograd through positions, both with a graph; each tuple is computed once."""
    x = xyz.permute(1, 2, 0).contiguous().requires_grad_()  # the layout of `espalike.energy`
    by_term = []
    for bound in system.terms:
        idx, values = bound.tuples.idx, bound.values.to(xyz.dtype)
        q = tuple(c(tuple(x.index_select(0, idx[:, a]) for a in c.atoms), dim=1)[0] for c in bound.term.coordinates)
        if isinstance(bound.term, PairTerm):
            of_atoms = values[:, : bound.term.n_combined]
            first, second = (of_atoms.index_select(0, idx[:, side]).unbind(-1) for side in (0, 1))
            p = bound.term.combine(first, second)
            scale = torch.where(bound.tuples.is14, bound.scale14.to(xyz.dtype), 1.0).unsqueeze(-1)
        else:
            p, scale = values.unbind(-1), 1.0
        u = bound.term.energy(q, tuple(column.unsqueeze(-1) for column in p)) * scale
        by_term.append(u.new_zeros(system.n_mols, len(xyz)).index_add(0, bound.tuples.mol, u))
    total = torch.stack(by_term).sum(0)
    (gradient,) = torch.autograd.grad(total.sum(), x, create_graph=True)
    return Prediction(total.T, -gradient.permute(2, 0, 1), tuple(u.T for u in by_term))


def network(forcefield: str, width: int, folded: bool) -> ForceFieldModel:
    """An untrained model of a force field of `configs/forcefield/`; without its nonbonded terms when `folded`."""
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    with initialize_config_module("espalike.configs", version_base="1.3"):
        settings = compose("train", [f"forcefield={forcefield}"])
    plain: Any = OmegaConf.to_container(settings, resolve=False)
    terms = [t for n, t in plain["forcefield"]["term"].items() if not (folded and n in _nonbonded(plain))]
    torch.manual_seed(0)
    sizes = {"width": width, "hidden": width, "layers": 4, "readout": "lean"}
    return from_config({"terms": terms, "conv": plain["conv"], **sizes})


def _nonbonded(plain: dict[str, Any]) -> list[str]:
    from espalike.nn.build import build

    return [name for name, term in plain["forcefield"]["term"].items() if isinstance(build(term), PairTerm)]


@dataclass
class Problem:
    """A model, a batch and its internal coordinates, which only the floor reads."""

    model: ForceFieldModel
    batch: LabelledBatch
    coordinates: list[CoordinateValues]
    loss: Objective
    optimizer: torch.optim.Optimizer

    @staticmethod
    def of(model: ForceFieldModel, batch: LabelledBatch) -> Problem:
        """Computes the coordinates once."""
        model = model.to(batch.xyz.device)
        with torch.no_grad():
            needed, _ = pooled_coordinates(model(batch).terms, len(batch.numbers))
        x = batch.xyz.permute(1, 2, 0).contiguous()
        coordinates = [coordinate_values(w.coordinate, w.idx, x) for w in needed]
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-5, fused=True)
        return Problem(model, batch, coordinates, Objective(charge=0.0, lj=0.0), optimizer)

    def predicted(self, path: str, system: MMSystem) -> Prediction:
        """Energies and forces with a graph, by one of `PATHS`."""
        if path == "double backward":
            return double_backward(system, self.batch.xyz)
        return energy(system, self.batch.xyz, create_graph=True)

    def differentiate(self, path: str, system: MMSystem) -> None:
        """Compute the loss and all its gradients."""
        prediction = self.predicted(path, system)
        factors = self.loss.source_factors(("made up",))
        self.loss.total(self.loss.losses(system, prediction, self.batch, factors)).backward()

    def step(self, path: str) -> None:
        """Do a whole training step."""
        self.optimizer.zero_grad(set_to_none=True)
        self.differentiate(path, self.model(self.batch))
        self.optimizer.step()

    def parameters(self) -> MMSystem:
        """The model's output, detached from the network, to compute gradients with respect to it."""
        with torch.no_grad():
            system = self.model(self.batch)
        terms = tuple(Bound(b.term, b.tuples, b.values.requires_grad_()) for b in system.terms)
        return MMSystem(terms, system.numbers, system.mol)

    def nbytes(self) -> int:
        """Size of the internal coordinates and B rows in bytes."""
        return sum(t.nbytes for v in self.coordinates for t in (v.q, *v.rows))

    def read(self) -> None:
        """Read every internal coordinate and B row once."""
        for values in self.coordinates:
            for tensor in (values.q, *values.rows):
                tensor.sum()


def timed(work: Callable[[], None], device: str) -> float:
    """Seconds that some work takes."""
    start = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compare(problem: Problem, paths: list[str], rounds: int, device: str) -> dict[str, dict[str, float]]:
    """Median milliseconds of step and energy part by path, their ratios to double backward, and the floor."""
    system = problem.parameters()
    jobs: dict[tuple[str, str], Callable[[], None]] = {("floor", ""): problem.read}
    for path in paths:
        jobs["step", path] = lambda path=path: problem.step(path)
        jobs["energy", path] = lambda path=path: problem.differentiate(path, system)
    for work in jobs.values():  # allocate memory, compile kernels
        timed(work, device)
        timed(work, device)
    seconds: dict[tuple[str, str], list[float]] = {job: [] for job in jobs}
    for n in range(rounds):
        for job in list(jobs) if n % 2 else list(jobs)[::-1]:
            seconds[job].append(timed(jobs[job], device))
    table: dict[str, dict[str, float]] = {}
    for path in paths:
        row = {"step_ms": 1e3 * statistics.median(seconds["step", path])}
        row["energy_ms"] = 1e3 * statistics.median(seconds["energy", path])
        for part in ("step", "energy"):
            pairs = zip(seconds[part, PATHS[0]], seconds[part, path], strict=True)
            row[f"{part}_ratio"] = statistics.median(reference / time for reference, time in pairs)
        pairs = zip(seconds["energy", path], seconds["floor", ""], strict=True)
        row["energy_vs_floor"] = statistics.median(time / floor for time, floor in pairs)
        table[path] = row
    table["floor"] = {"ms": 1e3 * statistics.median(seconds["floor", ""]), "megabytes": problem.nbytes() / 1e6}
    return table


def peak(work: Callable[[], None]) -> float | None:
    """Largest growth of the process in bytes during some work; None when the system does not report it."""
    status, refs = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def read(name: str) -> int:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name)) * 1024

    try:
        ctypes.CDLL(None).malloc_trim(0)  # memory kept from earlier work would be used again and not counted
        refs.write_text("5")
        before = read("VmRSS")
        work()
        return float(read("VmHWM") - before)
    except (OSError, AttributeError, StopIteration):
        return None


def scaling(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Cost of a step for several sizes, one varied at a time."""
    rows = []
    usual = {"molecules": 32, "conformers": CONFORMERS, "width": arguments.width}
    variations = [("conformers", n) for n in (8, 32, 128)] + [("molecules", n) for n in (4, 16, 32)]
    variations += [("width", n) for n in (64, 128, 256)] + [("atoms", n) for n in (50, 200, 800, 2000)]
    for name, value in track(variations, "scaling", console=Console(stderr=True), transient=True):
        sizes = {**usual, **({"molecules": 1, "conformers": 4} if name == "atoms" else {name: value})}
        smiles: Sequence[str] = MOLECULES[: sizes["molecules"]]
        if name == "atoms":
            smiles = ["C" * (value // 3)]  # an alkane has three atoms per carbon
        geometry = stretched if name == "atoms" else embedded
        batch = labelled(smiles, sizes["conformers"], torch.float32, arguments.device, geometry)
        model = network(arguments.forcefield, sizes["width"], folded=True)
        problem = Problem.of(model, batch)
        system = problem.parameters()
        step, part = partial(problem.step, FAST), partial(problem.differentiate, FAST, system)
        grown = peak(step) if arguments.device == "cpu" else None
        times = [timed(step, arguments.device) for _ in range(5)]
        of_energy = [timed(part, arguments.device) for _ in range(5)]
        many = sizes["conformers"] * len(smiles)
        milliseconds = 1e3 * statistics.median(times[1:])
        rows.append(
            {
                "varied": name,
                "value": value,
                "atoms": len(batch.numbers) // len(smiles),
                "step_ms": milliseconds,
                "energy_ms": 1e3 * statistics.median(of_energy[1:]),
                "conformers_per_s": 1e3 * many / milliseconds,
                "kilobytes_per_conformer": None if grown is None else grown / many / 1e3,
            }
        )
    return rows


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """All measurements, as `--json` writes them."""
    smiles = MOLECULES[: arguments.molecules]
    batch = labelled(smiles, CONFORMERS, torch.float32, arguments.device)
    many = CONFORMERS * arguments.molecules
    tables: dict[str, Any] = {}
    for threads in map(int, arguments.threads.split(",")):
        torch.set_num_threads(threads)
        for setting in SETTINGS:
            model = network(arguments.forcefield, arguments.width, setting == "folded")
            table = compare(Problem.of(model, batch), list(PATHS), arguments.rounds, arguments.device)
            size = sum(p.numel() for p in model.parameters())
            tables.setdefault(str(threads), {})[setting] = {"parameters": size, "paths": table}
    torch.set_num_threads(int(arguments.threads.split(",")[0]))

    def by_threads(value: Callable[[dict[str, Any]], float]) -> dict[str, float]:
        return {threads: value(each["folded"]["paths"][FAST]) for threads, each in tables.items()}

    return {
        "about": {
            "forcefield": arguments.forcefield,
            "molecules": arguments.molecules,
            "conformers": CONFORMERS,
            "atoms": len(batch.numbers) / arguments.molecules,
            "path": FAST,
            "setting": "folded",
            "device": arguments.device,
            "torch": torch.__version__,
            "rounds": arguments.rounds,
        },
        "conformers_per_s": by_threads(lambda row: 1e3 * many / row["step_ms"]),
        "ratio_step_vs_double_backward": by_threads(lambda row: row["step_ratio"]),
        "ratio_energy_vs_double_backward": by_threads(lambda row: row["energy_ratio"]),
        "energy_vs_bandwidth_floor": by_threads(lambda row: row["energy_vs_floor"]),
        "tables": tables,
        "scaling": scaling(arguments) if arguments.scaling else [],
    }


def show(result: dict[str, Any], console: Console) -> None:
    """Print a table of the paths and, with `--scaling`, one of the sizes."""
    about = result["about"]
    many = about["molecules"] * about["conformers"]
    title = (
        f"{about['forcefield']}: {about['molecules']} molecules x {about['conformers']} conformers, "
        f"{about['atoms']:.0f} atoms on average, {about['device']}"
    )
    table = Table("threads", "terms", "parameters", "path", title=title)
    for heading in ("step [ms]", "conformers/s", "ratio", "energy part [ms]", "ratio", "/ floor"):
        table.add_column(heading, justify="right")
    for threads, settings in result["tables"].items():
        for setting, result_of in settings.items():
            for path, row in result_of["paths"].items():
                if path == "floor":
                    continue
                cells = [f"{row['step_ms']:.1f}", f"{1e3 * many / row['step_ms']:,.0f}", f"{row['step_ratio']:.2f}"]
                cells += [f"{row['energy_ms']:.1f}", f"{row['energy_ratio']:.2f}", f"{row['energy_vs_floor']:.1f}"]
                table.add_row(threads, setting, f"{result_of['parameters']:,}", path, *cells)
            floor = result_of["paths"]["floor"]
            note = f"{floor['megabytes']:.1f} MB, {1e3 * floor['megabytes'] / many:.1f} kB per conformer"
            table.add_row(threads, setting, "", f"floor: {note}", "", "", "", f"{floor['ms']:.2f}", "", "1.0")
            table.add_section()
    console.print(table)
    if not result["scaling"]:
        return
    table = Table("varied", title="a step, folded")
    for heading in ("to", "atoms", "step [ms]", "energy part [ms]", "conformers/s", "peak kB per conformer"):
        table.add_column(heading, justify="right")
    for row in result["scaling"]:
        memory = row["kilobytes_per_conformer"]
        cells = [str(row["value"]), str(row["atoms"]), f"{row['step_ms']:.1f}", f"{row['energy_ms']:.1f}"]
        cells.append(f"{row['conformers_per_s']:,.0f}")
        table.add_row(row["varied"], *cells, "" if memory is None else f"{memory:.0f}")
    console.print(table)


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forcefield", default="class1", help="a force field of configs/forcefield")
    parser.add_argument("--threads", default="1,2", help="numbers of threads, comma separated")
    parser.add_argument("--width", type=int, default=128, help="width of the network; 128 gives about 0.5 M parameters")
    parser.add_argument("--molecules", type=int, default=len(MOLECULES))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--scaling", action="store_true", help="also measure the cost for several sizes")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--json", metavar="FILE", help="write everything measured")
    arguments = parser.parse_args()
    keep_freed_memory()  # training does so, too
    result = run(arguments)
    show(result, Console(width=max(Console().width, 130), markup=False))
    if arguments.json:
        path = Path(arguments.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, json.dumps(result, indent=1) + "\n")
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
