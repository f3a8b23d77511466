"""`espalike label`: molecules → geometries → energies and forces of a calculator → store."""

from __future__ import annotations

import csv
import json
import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from espalike.cli.ingest import Reference
    from espalike.data.schema import Record
    from espalike.qm.base import Calculator
    from espalike.qm.labelling import Job, LabelDirectory
    from espalike.qm.sampling import Sampler

HELP = """usage: espalike label calculator=NAME input=FILE out=DIR [key=value ...]

Makes thermal geometries of molecules by Langevin dynamics, labels them with energies and forces, and writes a store.
Every finished label is kept in DIR/labels (or labels=DIR) at once: the same command, given again, goes on from there.

  espalike label calculator=gfn2-xtb input=CCO out=store/ethanol sampler.frames=4
  espalike label calculator=pyscf input=molecules.smi out=store/mine workers=2

  input=                 .smi or SDF file, a SMILES, a store, an HDF5 file in the reader's layout; [a,b] takes several
  calculator=pyscf|gfn2-xtb|gfn1-xtb|mmff94              what labels
  calculator@sampler.calculator=gfn2-xtb|mmff94|...      what drives the dynamics
  sampler.frames=, sampler.temperature=                  geometries per molecule, bath in K
  split=[train,val]      of a store or HDF5 input, the splits to take
  splits=FILE            CSV with columns name, split for the molecules of a .smi file;
                         molecules without a split get one by their connectivity (80/10/10 %)
  stop=N                 label only the first N geometries of each molecule now
  workers=N              processes of one thread each"""

_SHOWN = 8
"""Failures printed; the others are counted only."""


def run(cfg) -> int:
    """Run the job; 0 all labelled, 1 some inputs or labels failed and are counted in the store.

    Raises:
        ValueError: when nothing can be done: no input, no molecule left, labels of other settings under `out`.
    """
    from omegaconf import OmegaConf
    from rich.console import Console

    from espalike.qm.labelling import LabelDirectory

    # before numpy and tblite load in the workers: more threads would fight for the same cores
    os.environ["OMP_NUM_THREADS"] = "1"
    console = Console(stderr=True, soft_wrap=True)
    rejected: Counter[str] = Counter()
    messages: list[str] = []
    jobs = _jobs(cfg, rejected, messages)
    for message in messages:
        console.print(message, style="yellow", markup=False, highlight=False)
    if not jobs:
        raise ValueError(f"input={cfg.input}: no molecule to label; rejected: {dict(rejected)}")
    settings = {key: OmegaConf.to_container(getattr(cfg, key), resolve=True) for key in ("calculator", "sampler")}
    frames = int(cfg.sampler.frames) if cfg.stop is None else min(cfg.stop, cfg.sampler.frames)
    directory = LabelDirectory(cfg.labels or Path(cfg.out) / "labels", retry=cfg.retry)
    directory.claim(settings)
    _label(jobs, directory, json.dumps(settings), frames, cfg.chunk, cfg.workers, console)
    return _assemble(cfg, jobs, directory, settings, rejected, console)


def _jobs(cfg, rejected: Counter[str], messages: list[str]) -> list[Job]:
    """The molecules of all inputs, each once; broken ones are counted and told."""
    from omegaconf import ListConfig

    from espalike.chem import safe_names
    from espalike.qm.labelling import Job

    inputs = list(cfg.input) if isinstance(cfg.input, ListConfig) else [str(cfg.input)]
    wanted = [cfg.split] if isinstance(cfg.split, str) else list(cfg.split or [])
    splits = _splits(cfg.splits)
    found: dict[str, Job] = {}
    for source in inputs:
        for entry in _entries(source):
            if isinstance(entry, tuple):
                rejected[entry[0]] += 1
                messages.append(entry[1])
            elif (not wanted or entry.split in wanted) and entry.molecule.smiles not in found:
                split = splits.get(entry.name, entry.split)
                found[entry.molecule.smiles] = Job(entry.name, entry.molecule, entry.starts, split)
    jobs = list(found.values())[: cfg.limit]
    unknown = set(splits) - {job.name for job in jobs}
    if splits and unknown and cfg.limit is None:
        messages.append(f"{cfg.splits}: not in the input: {', '.join(sorted(unknown))}")
    names = safe_names([job.name for job in jobs])
    return [Job(name, job.molecule, job.starts, job.split) for name, job in zip(names, jobs, strict=True)]


def _splits(path: str | None) -> dict[str, str]:
    if not path:
        return {}
    with open(path, newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if not {"name", "split"} <= set(rows.fieldnames or []):
            raise ValueError(f"{path}: expected columns name and split, got {rows.fieldnames}")
        return {row["name"]: row["split"] for row in rows}


def _entries(source: str) -> Iterator[Job | tuple[str, str]]:
    """Molecules of one input, or (reason, message) of what is broken."""
    from espalike.chem import read_molecules
    from espalike.data.readers.hdf5 import Hdf5Reader
    from espalike.data.schema import Rejection
    from espalike.data.store import Store
    from espalike.qm.labelling import Job

    path = Path(source)
    if path.is_dir() or path.suffix in {".h5", ".hdf5"}:
        for record in Store.open(path).records() if path.is_dir() else Hdf5Reader(path):
            if isinstance(record, Rejection):
                yield record.reason, record.message
            else:
                yield Job(record.id, record.molecule, record.conformers.xyz, record.split)
        return
    for entry in read_molecules(source):
        if entry.molecule is None:
            yield "unreadable", str(entry.error)
        else:
            yield Job(entry.name, entry.molecule, None if entry.xyz is None else entry.xyz[None])


def _label(
    jobs: Sequence[Job], directory: LabelDirectory, settings: str, frames: int, chunk: int, workers: int, console
) -> None:
    """Label every molecule's next `chunk` geometries in turn, so that a run cut short treats all alike."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed

    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    before = {job.name: directory.done(job, frames) for job in jobs}
    open_jobs = [job for job in jobs if before[job.name] < frames]
    if not open_jobs:
        return
    columns = (TextColumn("label"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    context = multiprocessing.get_context("spawn")  # a forked child inherits locks of the parent's thread pools
    with (
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
        ProcessPoolExecutor(min(workers, len(open_jobs)), mp_context=context, initializer=_end_with_parent) as pool,
    ):
        bar = progress.add_task("label", total=frames * len(jobs), completed=sum(before.values()))
        count = dict(before)
        try:
            for stop in [*range(chunk, frames, chunk), frames]:
                tasks = {pool.submit(_work, directory, settings, job, stop): job for job in open_jobs}
                for task in as_completed(tasks):
                    task.result()
                    job = tasks[task]
                    now = max(directory.done(job, frames), count[job.name])
                    progress.advance(bar, now - count[job.name])
                    count[job.name] = now
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _end_with_parent() -> None:
    """Let a worker end when the program is killed; left alone, it would wait for work for ever."""
    import multiprocessing
    import threading

    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _work(directory: LabelDirectory, settings: str, job: Job, stop: int) -> None:
    calculator, sampler = _tools(settings)
    directory.work(job, calculator, sampler, stop)


@lru_cache(maxsize=1)
def _tools(settings: str) -> tuple[Calculator, Sampler]:
    """The calculator and sampler of a worker, kept from task to task."""
    from hydra.utils import instantiate

    made = instantiate(json.loads(settings), _convert_="all")
    return made["calculator"], made["sampler"]


def _assemble(
    cfg, jobs: Sequence[Job], directory: LabelDirectory, settings: dict, rejected: Counter[str], console
) -> int:
    from espalike.cli.ingest import _overrides, _reference, _show
    from espalike.data.store import write_store

    calculator, sampler = _tools(json.dumps(settings))
    reference, described = _reference(cfg.reference, cfg.force_field)
    messages: list[str] = []
    records = _records(jobs, directory, (calculator.level, cfg.source), reference, rejected, messages)
    manifest = {
        "origin": cfg.origin,
        "licence": cfg.licence,
        "command": shlex.join(["espalike", "label", *_overrides()]),
        "program": calculator.program,
        "dynamics": f"{sampler.calculator.level} at {sampler.temperature:g} K, {sampler.calculator.program}",
        "settings": settings,
        "reference": described,
    }
    store = write_store(cfg.out, records, manifest=manifest, rejected=rejected)
    for message in messages[:_SHOWN]:
        console.print(message, style="yellow", markup=False, highlight=False)
    if len(messages) > _SHOWN:
        console.print(f"... and {len(messages) - _SHOWN} more of these", style="yellow")
    _show(store, rejected)
    return 1 if any(not reason.startswith("reference:") for reason in rejected) else 0


def _records(
    jobs: Sequence[Job],
    directory: LabelDirectory,
    origin: tuple[str, str],
    reference: Reference | None,
    rejected: Counter[str],
    messages: list[str],
) -> Iterator[Record]:
    """What is labelled, as records; what is not goes into `rejected` and `messages`."""
    from espalike.chem import connectivity_key
    from espalike.data.schema import Record
    from espalike.data.split import hash_split
    from espalike.types import Conformers

    for job in jobs:
        labels = directory.labels(job)
        rejected.update({f"label: {reason}": count for reason, count in labels.failed.items()})
        messages += labels.messages
        if not len(labels.energy):
            continue
        charge = lj = None
        if reference is not None:
            try:
                charge, lj = reference(job.molecule)
            except ValueError as error:
                rejected["reference: not covered"] += 1
                messages.append(str(error))
        conformers = Conformers(labels.xyz, labels.energy, labels.forces, *origin)
        split = job.split or hash_split(connectivity_key(job.molecule))
        yield Record(job.name, job.molecule, conformers, split, ref_charge=charge, ref_lj=lj)


def main(argv: Sequence[str] | None = None) -> int:
    """The job on its own: `python -m espalike.cli.label key=value ...`."""
    from espalike.cli.main import main as program

    return program(["label", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
