"""The cost of a large store: python benchmarks/store.py [--conformers 1000000] [--work DIR] [--json FILE] [--clean]

Makes an HDF5 file, ingests it with `espalike ingest`, and trains from the store. Prints a table:
ingest on one core, time to open, resident memory of `espalike train`, training throughput from the mapped store against
the same data held in memory, loading alone, and loading by worker processes.

benchmarks/store_data.py describes the file: real molecules and displaced geometries with random labels.

Times are processor times and wall-clock times; on a busy machine the former vary less.
Mapped and in-memory training take turns on the same batches; the ratio is the median over rounds.
The file and the store stay in --work and are used again; the ingest is done anew each time unless --keep-store.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from store_data import LEVEL, PER_ENTRY, ensure_file

from espalike import files

ROOT = Path(__file__).parents[1]


def one_thread() -> dict[str, str]:
    return {**os.environ, **{f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "ARROW")}}


def ingest(file: Path, store: Path) -> dict[str, float]:
    """Processor and wall-clock seconds of `espalike ingest` on one core, start of the program included."""
    command = [sys.executable, "-m", "espalike", "ingest", f"reader.path={file}", f"out={store}", "force=true"]
    command += ["fractions.train=0.98", "fractions.val=0.02", "fractions.test=0"]
    core = {min(os.sched_getaffinity(0))} if hasattr(os, "sched_setaffinity") else None
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command, env=one_thread(), capture_output=True, text=True, check=False,
        preexec_fn=core and (lambda: os.sched_setaffinity(0, core)),
    )  # fmt: skip
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stdout}{done.stderr}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_s": cpu, "wall_s": wall}


def child(task: str, store: Path, **options: int) -> dict:
    """Result of one of the functions below, run in a separate process."""
    command = [sys.executable, __file__, "--task", task, "--work", str(store), "--options", json.dumps(options)]
    done = subprocess.run(command, env=one_thread(), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def resident(pid: int | str = "self") -> dict[str, float]:
    """Resident memory [MB]: private (`anon`), and of mapped files (libraries, the store)."""
    with open(f"/proc/{pid}/status") as status:
        memory = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in status if line.startswith("Rss")}
    return {"anon": memory["RssAnon"], "file": memory["RssFile"], "all": sum(memory.values())}


def task_open(store: Path) -> dict:
    from espalike.data.dataset import StoreDataset
    from espalike.data.store import Store

    times = []
    for _ in range(5):
        start = time.perf_counter()
        opened = Store.open(store)
        times.append(time.perf_counter() - start)
    start = time.perf_counter()
    dataset = StoreDataset([opened], "train", [LEVEL])
    index = time.perf_counter() - start
    counts = {split: of["conformers"] for split, of in opened.manifest["splits"].items()}
    assert counts["train"] == dataset.counts.sum()
    return {"first_s": times[0], "median_s": statistics.median(times), "index_s": index, "counts": counts}


def task_memory(store: Path, trained: int, batch: int, conformers: int, graphs: int) -> dict:
    """Peak resident memory of `espalike train`: it loads an epoch of all conformers, trains on `trained` of its
    batches, evenly spread, and validates."""
    import tempfile
    import warnings

    from espalike.cli.main import main as program
    from espalike.training.lightning import TrainingModule

    peak = dict.fromkeys(("anon", "file", "all"), 0.0)
    seen = {"batches": 0, "conformers": 0}
    step = TrainingModule.training_step

    def sparse(self, data, i):
        seen["batches"] += 1
        seen["conformers"] += int(data.mask.sum())
        every = max(1, len(self.trainer.train_dataloader) // trained)
        loss = step(self, data, i) if i % every == 0 else None
        for key, value in resident().items():
            peak[key] = max(peak[key], value)
        return loss

    TrainingModule.training_step = sparse  # type: ignore[method-assign]
    warnings.filterwarnings("ignore", ".*training_step.*returned.*None")
    with tempfile.TemporaryDirectory() as out:
        overrides = [f"data.stores=[{store}]", f"data.level={LEVEL}", "data.epoch=conformers", f"out={out}",
                     f"data.batch_size={batch}", f"data.conformers={conformers}", f"data.cache={graphs}",
                     "trainer.max_epochs=1", "trainer.enable_progress_bar=false"]  # fmt: skip
        if program(["train", *overrides]):
            sys.exit("training failed")
    for key, value in resident().items():
        peak[key] = max(peak[key], value)
    return {**peak, **seen}


def in_memory(path: Path):
    """A store whose files are in memory; mapping is compared with it."""
    import pyarrow as pa

    from espalike.data.shards import data_files
    from espalike.data.store import Store

    class InMemory(Store):
        def release(self) -> None:
            pass

    manifest = Store.open(path).manifest
    contents = [(path / name).read_bytes() for name in data_files(manifest)]
    tables = [pa.ipc.open_file(pa.py_buffer(content)).read_all() for content in contents]
    return InMemory(path, manifest, pa.concat_tables(tables), contents)


def batches_of(store, graphs: int):
    """Training batches of a store, with `graphs` MB of cached graphs."""
    from espalike.data.batches import Batches
    from espalike.data.dataset import StoreDataset

    return Batches(StoreDataset([store], "train", [LEVEL]), cache=graphs * 2**20)


def timed(batches: Iterator, n: int, use) -> tuple[float, float, int]:
    """Processor seconds, wall-clock seconds and number of conformers of `n` batches."""
    start, cpu, count = time.perf_counter(), time.process_time(), 0
    for _ in range(n):
        batch = next(batches)
        count += int(batch.mask.sum())
        use(batch)
    return time.process_time() - cpu, time.perf_counter() - start, count


def trainer_of(batch_size: int):
    """One training step of a class I force field with the default network, as a function of the batch."""
    import torch
    from hydra import compose, initialize_config_module
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    from espalike.model import from_config
    from espalike.training.lightning import TrainingModule

    with initialize_config_module("espalike.configs", version_base="1.3"):
        cfg = compose("train")
    plain = OmegaConf.to_container(cfg, resolve=False)
    torch.manual_seed(0)
    terms = list(plain["forcefield"]["term"].values())
    model = from_config({"terms": terms, "conv": plain["conv"], "levels": [LEVEL], **plain["model"]})
    module = TrainingModule(model, instantiate(cfg.objective), torch.optim.Adam, ["one"])
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step(batch) -> None:
        optimizer.zero_grad()
        module.training_step(batch, 0).backward()
        optimizer.step()

    return step


def task_speed(store: Path, rounds: int, steps: int, loads: int, batch: int, conformers: int, graphs: int) -> dict:
    """Throughput in memory and mapped, taking turns: training steps, then loading alone."""
    import torch

    from espalike.data.batches import loader_of
    from espalike.data.sampler import EpochSampler, Picks
    from espalike.data.store import Store

    torch.set_num_threads(1)
    mapped, memory = (batches_of(opened, graphs) for opened in (Store.open(store), in_memory(store)))
    sampler = EpochSampler(mapped.dataset.counts, batch, conformers, "conformers")
    start = time.process_time()
    for entries in np.split(np.array(mapped.dataset.distinct()), range(batch, len(mapped.dataset.distinct()), batch)):
        one = Picks(entries, np.ones_like(entries), np.zeros_like(entries))
        mapped.__getitems__(one)  # fills the cache of graphs
        memory.__getitems__(one)
    result: dict = {"graphs_s": (time.process_time() - start) / 2, "graphs_mb": mapped.graphs.nbytes / 2**20}
    for name, n, use in (("train", steps, trainer_of(batch)), ("load", loads, lambda batch: None)):
        times: dict[str, list] = {"memory": [], "mapped": []}
        streams = {"memory": iter(loader_of(memory, sampler)), "mapped": iter(loader_of(mapped, sampler))}
        n = min(n, (len(sampler) - 1) // (rounds + 1))
        for r in range(rounds + 1):
            for kind in sorted(streams, reverse=bool(r % 2)):
                times[kind].append(timed(streams[kind], n, use))
        result[name] = {kind: rates(rows[1:]) for kind, rows in times.items()}  # the first round warms up
        for clock, column in (("cpu", 0), ("wall", 1)):
            pairs = zip(times["memory"][1:], times["mapped"][1:], strict=True)
            ratios = sorted(m[column] / d[column] for m, d in pairs)
            result[name][f"ratio_{clock}"] = {"median": statistics.median(ratios), "all": ratios}
    return result


def rates(timings: list[tuple[float, float, int]]) -> dict[str, float]:
    """Median conformers per second of processor time and of wall-clock time."""
    return {clock: statistics.median(t[2] / t[i] for t in timings) for i, clock in enumerate(("cpu", "wall"))}


def task_workers(store: Path, loads: int, batch: int, conformers: int, graphs: int) -> dict:
    """Loading alone, by worker processes and in the training process, of new molecules, whose graphs are made."""
    from espalike.data.sampler import EpochSampler
    from espalike.data.store import Store

    batches = batches_of(Store.open(store), graphs)
    sampler = EpochSampler(batches.dataset.counts, batch, conformers, "conformers")
    return {str(n): with_workers(batches, sampler, n, loads) for n in (1, 2, 0)}


def with_workers(data, sampler, workers: int, n: int) -> dict[str, float]:
    """Conformers per second of wall-clock time of loading alone, and the largest memory of a worker [MB]."""
    from espalike.data.batches import loader_of

    batches = iter(loader_of(data, sampler, workers))
    n = min(n, len(sampler) - 4)
    timed(batches, 3, lambda batch: None)
    _, wall, count = timed(batches, n, lambda batch: None)
    pids = [worker.pid for worker in getattr(batches, "_workers", [])]
    return {"wall": count / wall, "worker_mb": max(map(own_share, pids), default=0.0)}


def own_share(pid: int) -> float:
    """Memory of a process [MB]; memory shared with other processes counts by its share."""
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        return next(int(line.split()[1]) / 1024 for line in rollup if line.startswith("Pss:"))


def show(figures: dict, console: Console) -> None:
    n, ing, opened, mem, speed = (figures[k] for k in ("conformers", "ingest", "open", "memory", "speed"))
    table = Table(title=f"A store of {n:,} conformers, {figures['entries']:,} entries, {figures['store_gb']:.2f} GB")
    for column, side in (("", "left"), ("figure", "right"), ("goal", "left")):
        table.add_column(column, justify=side)  # type: ignore[arg-type]
    if ing:
        table.add_row("ingest, conformers/s of processor time", f"{n / ing['cpu_s']:,.0f}", "≥ 20,000")
        table.add_row("ingest, conformers/s of the clock", f"{n / ing['wall_s']:,.0f}", "")
    table.add_row("open, s, first / median of 5", f"{opened['first_s']:.3f} / {opened['median_s']:.3f}", "< 1")
    table.add_row("index for training, s", f"{opened['index_s']:.2f}", "")
    peaks = f"{mem['anon']:.0f} + {mem['file']:.0f}"
    table.add_row("espalike train, peak MB of private memory + of mapped files", peaks, "")
    table.add_row("espalike train, peak MB of both together", f"{mem['all']:.0f}", "< 2000")
    for name, what, goal in (("train", "training", "> 0.9"), ("load", "loading alone", "")):
        rates_of = speed[name]
        for kind, where in (("memory", "in memory"), ("mapped", "mapped")):
            rate = f"{rates_of[kind]['cpu']:,.0f} / {rates_of[kind]['wall']:,.0f}"
            table.add_row(f"{what}, {where}, conformers/s processor / clock", rate, "")
        ratio = f"{rates_of['ratio_cpu']['median']:.3f} / {rates_of['ratio_wall']['median']:.3f}"
        table.add_row(f"{what}, mapped / in memory, processor / clock", ratio, goal)
    for workers, loading in figures["workers"].items():
        memory = f", {loading['worker_mb']:.0f} MB each" if loading["worker_mb"] else ""
        label = f"loading alone, new molecules, {workers} workers{memory}, conformers/s clock"
        table.add_row(label, f"{loading['wall']:,.0f}", "")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conformers", type=int, default=1_000_000, help="in the file (default %(default)s)")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build/store_benchmark", help="folder (default %(default)s)"
    )
    parser.add_argument("--shared", type=Path, default=ROOT / "../shared/data", help="data sets to make it from")
    parser.add_argument(
        "--as-drawn", action="store_true", help="a molecule that is used again keeps the order of its atoms"
    )
    parser.add_argument("--keep-store", action="store_true", help="use the store of the last run; no ingest")
    parser.add_argument("--clean", action="store_true", help="remove file and store at the end")
    parser.add_argument("--batch", type=int, default=32, help="entries in a batch (default %(default)s)")
    parser.add_argument("--per-entry", type=int, default=16, help="conformers of each (default %(default)s)")
    parser.add_argument("--graphs", type=int, default=256, help="MB of graphs that are kept (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=40, help="of mapped against in memory (default %(default)s)")
    parser.add_argument("--steps", type=int, default=1, help="training steps in a round (default %(default)s)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--options", type=json.loads, default={}, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        print(json.dumps(globals()[f"task_{options.task}"](options.work, **options.options)))
        return
    if options.conformers < 10 * PER_ENTRY:
        parser.error(f"--conformers {options.conformers}: at least {10 * PER_ENTRY}")
    options.work.mkdir(parents=True, exist_ok=True)
    file = ensure_file(options.work, options.shared, options.conformers, not options.as_drawn)
    console, store = Console(width=120), options.work / f"store-{file.stem}"
    timing = None if options.keep_store and (store / "manifest.json").is_file() else ingest(file, store)
    manifest = json.loads((store / "manifest.json").read_text())
    size = sum(path.stat().st_size for path in store.iterdir()) / 1e9
    common = {"batch": options.batch, "conformers": options.per_entry, "graphs": options.graphs}
    figures = {
        "conformers": options.conformers, "entries": manifest["entries"], "stored": manifest["conformers"],
        "rejected": manifest["rejected"], "store_gb": size, "ingest": timing, "open": child("open", store),
        "memory": child("memory", store, trained=20, **common),
        "speed": child("speed", store, rounds=options.rounds, steps=options.steps, loads=5, **common),
        "workers": child("workers", store, loads=200, **common),
    }  # fmt: skip
    show(figures, console)
    if figures["stored"] != options.conformers:
        print(f"note: {figures['stored']:,} conformers are stored; left out: {figures['rejected']}")
    if options.json:
        files.write(options.json, json.dumps(figures, indent=1) + "\n")
    if options.clean:
        file.unlink()
        shutil.rmtree(store)


if __name__ == "__main__":
    main()
