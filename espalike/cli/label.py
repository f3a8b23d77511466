"""`espalike label`: molecules → geometries → energies and forces of a calculator → store."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from espalike.tables import first_few

if TYPE_CHECKING:
    from espalike.data.ingest import Reference
    from espalike.data.schema import Record
    from espalike.qm.base import Calculator
    from espalike.qm.compute import Task
    from espalike.qm.labelling import Job, LabelDirectory, Labelled
    from espalike.qm.sampling import Geometries

HELP = """usage: espalike label calculator=NAME input=FILE out=DIR [sampler=NAME] [key=value ...]

Make geometries of molecules, compute their energies and forces (labels), and write a store. Each label is saved in
DIR/labels (or labels=DIR) as soon as it is computed: the same command, given again, continues and repeats none.

  espalike label calculator=gfn2-xtb input=CCO out=store/ethanol sampler.frames=4
  espalike label calculator=pyscf input=molecules.smi out=store/mine workers=2 esp=2

the calculator that labels: calculator=pyscf (default)|aimnet2|gfn2-xtb|ani2x|psi4|qcengine|espalike|mmff94|...
how geometries are made: sampler=NAME, with a cheap calculator (calculator@sampler.calculator=gfn2-xtb|mmff94|...)
  thermal    Langevin dynamics; the default
    espalike label calculator=gfn2-xtb input=CCO out=store/thermal sampler.temperature=600 sampler.frames=8
             eight trajectories at once, from 300 to 700 K, with a force field:
    espalike label calculator=gfn2-xtb calculator@sampler.calculator=espalike input=CCO out=store/hot \\
      sampler.temperature=300 sampler.highest=700 sampler.starts=8 sampler.frames=17
  distort    bonds and angles of minima changed at random
    espalike label calculator=gfn2-xtb input=CCO out=store/distorted sampler=distort sampler.bond=0.1
  modes      harmonic displacements along the normal modes of minima
    espalike label calculator=gfn2-xtb input=CCO out=store/modes sampler=modes sampler.temperature=300
  etkdg      conformers, minimised
    espalike label calculator=gfn2-xtb input=CCCCO out=store/conformers sampler=etkdg sampler.frames=5
  shapes     conformers from folded to extended
    espalike label calculator=gfn2-xtb calculator@sampler.calculator=espalike input=CCCCCO out=store/shapes \\
      sampler=shapes sampler.frames=4 sampler.pool=10
  scan       relaxed torsion scans, one entry per rotatable bond, or per dihedral in sampler.dihedrals
    espalike label calculator=gfn2-xtb input=CCCC out=store/scan sampler=scan sampler.spacing=30
    espalike label calculator=gfn2-xtb input=CC out=store/ethane sampler=scan 'sampler.dihedrals=[[2,0,1,5]]'
  wavefront  the same by wavefront propagation, in one or two dimensions
    espalike label calculator=mmff94 calculator@sampler.calculator=mmff94 input=CCCO out=store/wave \\
      sampler=wavefront sampler.dimensions=2 sampler.spacing=60
  mixed      several samplers: thermal, distort and those that you add
    espalike label calculator=gfn2-xtb input=CCCC out=store/both sampler=mixed \\
      +sampler@sampler.parts.scan=scan sampler.parts.scan.spacing=60
  disagreement  active learning: hot dynamics with several models, and of it the frames on which they disagree
    espalike label calculator=gfn2-xtb input=CCO out=store/next sampler=disagreement sampler.pool=20 \\
      calculator@sampler.calculator=ensemble 'sampler.calculator.models=[espalike-1,espalike-2]'

where labels are computed: compute=local (worker processes on this machine) or compute=qcfractal (a QCFractal server)
    espalike label calculator=gfn2-xtb compute=qcfractal compute.address=http://localhost:7777 input=CCO \\
      out=store/server compute.wait=false

  input=                 .smi or SDF file, a SMILES, a store, an HDF5 file in the reader's layout; [a,b] takes several
  reader=NAME            layout of other QM data files (spice, sdf, ...), with its options: reader.level=...
  split=[train,val]      of a store or HDF5 input, the splits to take
  splits=FILE            CSV with columns name, split for the molecules of a .smi file;
                         molecules without a split get one by their connectivity
  fractions={train:0.9,val:0.05,test:0.05}   shares of these splits; 80/10/10 % by default
  stop=N                 label only the first N geometries of each molecule now
  esp=N                  with electrostatic potentials for the first N geometries of each molecule (pyscf)
  disagreement=X         leave out labels on which an ensemble's members disagree on an atom by more than X kcal/mol/Å
  audit=error|warn|off   what to do when energies and forces do not fit each other or the geometries; see ingest
  workers=N              processes of one thread each"""

_SHOWN = 8
"""Failures printed; the others are counted only."""


def run(cfg) -> int:
    """Run the job; 0 all labelled, 1 some inputs or labels failed and are counted in the store.

    Raises:
        ValueError: when nothing can be done: no input, no molecule left, a program that is not installed, labels of
            other settings under `out`.
    """
    from hydra.utils import instantiate
    from rich.console import Console

    from espalike.cli.label_input import read_jobs
    from espalike.qm.compute import Local, compute_labels
    from espalike.settings import made

    made.cache_clear()  # files that settings name may have changed since an earlier job

    # before numpy and tblite load in the workers: more threads would fight for the same cores
    os.environ["OMP_NUM_THREADS"] = "1"
    console = Console(stderr=True, soft_wrap=True)
    rejected: Counter[str] = Counter()
    messages: list[str] = []
    if cfg.audit not in (known := ("error", "warn", "off")):
        raise ValueError(f"audit={cfg.audit}: expected {' or '.join(known)}")
    jobs = read_jobs(cfg, rejected, messages)
    parts = _parts(cfg)
    tasks = [task for part in parts for task in _tasks(part, jobs, cfg, rejected, messages)]
    for message in messages:
        console.print(message, style="yellow", markup=False, highlight=False)
    if not tasks:
        raise ValueError(f"input={cfg.input}: no molecule to label; rejected: {dict(rejected)}")
    compute = instantiate(cfg.compute, _convert_="all")
    _check_disagreement(cfg, parts)
    if isinstance(compute, Local):
        str(parts[0].tools()[0].program)  # fails if the program is not installed, before anything is written
    for part in parts:
        part.directory.claim(part.settings, part.tools()[0])
    compute_labels(tasks, compute, console)
    if left := getattr(compute, "left", 0):
        console.print(f"{left} labels are still being computed; the same command collects them", style="yellow")
        if not any(task.directory.labels(task.job) for task in tasks):
            return 0  # no store yet
    return _assemble(cfg, parts, tasks, rejected, console)


def _check_disagreement(cfg, parts: Sequence[_Part]) -> None:
    from espalike.qm.base import gives

    calculator = parts[0].tools()[0]
    if cfg.disagreement is not None and not gives(calculator, "disagreement"):
        raise ValueError(
            f"disagreement={cfg.disagreement}: {calculator.level} is not an ensemble; label with aimnet2, ani2x or "
            "ensemble, or without this limit"
        )


@dataclass(frozen=True, eq=False)
class _Part:
    """One sampler with the calculator that labels its geometries, and the directory of these labels."""

    name: str
    settings: dict
    directory: LabelDirectory

    @property
    def tools(self) -> Callable[[], tuple[Calculator, Geometries]]:
        from espalike.settings import made

        return partial(made, json.dumps(self.settings))


def _parts(cfg) -> list[_Part]:
    """The samplers: one, or those under `sampler.parts`, with a directory of labels each."""
    from omegaconf import OmegaConf

    from espalike.qm.labelling import LabelDirectory

    root = Path(cfg.labels or Path(cfg.out) / "labels")
    chosen: dict = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    calculator, sampler = chosen["calculator"], chosen["sampler"]
    if "parts" not in sampler:
        settings = {"calculator": calculator, "sampler": sampler}
        return [_Part("", settings, LabelDirectory(root, retry=cfg.retry))]
    parts = []
    for name, part in sampler["parts"].items():
        settings = {"calculator": calculator, "sampler": {"calculator": sampler["calculator"], **part}}
        parts.append(_Part(name, settings, LabelDirectory(root / name, retry=cfg.retry)))
    return parts


def _tasks(part: _Part, jobs: Sequence[Job], cfg, rejected: Counter[str], messages: list[str]) -> Iterator[Task]:
    """The entries that a sampler makes of the molecules; only those of the first sampler get potentials."""
    from espalike.qm.compute import Task
    from espalike.qm.sampling.torsions import named

    sampler = part.tools()[1]
    table = getattr(sampler, "dihedrals", None)
    if isinstance(table, str) and (unknown := named(table) - {job.molecule.name for job in jobs}):
        messages.append(f"{table}: not in the input: {first_few(sorted(unknown))}")
    first = not part.name or part.name == next(iter(cfg.sampler.parts))
    for job in jobs:
        try:
            entries = sampler.entries(job.molecule)
        except ValueError as error:
            rejected["nothing to sample"] += 1
            messages.append(str(error))
            continue
        for suffix, entry in entries.items():
            frames = int(entry.frames) if cfg.stop is None else min(cfg.stop, entry.frames)
            entry_job = replace(job, name=f"{job.name}-{suffix}") if suffix else job
            yield Task(entry_job, part.directory, part.tools, suffix, frames, cfg.esp if first else 0)


def _assemble(cfg, parts: Sequence[_Part], tasks: Sequence[Task], rejected: Counter[str], console) -> int:
    from espalike.cli.common import command_line, references, show_store
    from espalike.data.store import write_store

    calculator = parts[0].tools()[0]
    samplers = {part.name or "sampler": part.tools()[1] for part in parts}
    programs = sorted({program for part in parts for program in part.directory.programs()})
    reference, described = references(cfg.reference, cfg.force_field)
    messages: list[str] = []
    limit = float("inf") if cfg.disagreement is None else cfg.disagreement
    records = _records(tasks, (calculator.level, cfg.source), reference, rejected, messages, limit)
    failed: list[dict] = []
    manifest = {
        "origin": cfg.origin,
        "licence": cfg.licence,
        "command": command_line("label"),
        "program": ", ".join(programs) or calculator.program,
        "geometries": {
            name: f"{type(sampler).__name__} on {sampler.calculator.level}, {sampler.calculator.program}"
            for name, sampler in samplers.items()
        },
        "settings": {part.name: part.settings for part in parts} if parts[0].name else parts[0].settings,
        "reference": described,
        "audits": failed,
    }
    if cfg.audit != "off":
        records = _audited(records, cfg.audit, failed)
    try:
        store = write_store(cfg.out, records, manifest=manifest, rejected=rejected)
    finally:
        messages += [f"warning: {verdict['where']}: {verdict['message']}" for verdict in failed]
        for message in messages[:_SHOWN]:
            console.print(message, style="yellow", markup=False, highlight=False)
        if len(messages) > _SHOWN:
            console.print(f"... and {len(messages) - _SHOWN} more of these", style="yellow")
    show_store(store, rejected)
    return 1 if any(not reason.startswith("reference:") for reason in rejected) else 0


def _records(
    tasks: Sequence[Task],
    origin: tuple[str, str],
    reference: Reference | None,
    rejected: Counter[str],
    messages: list[str],
    disagreement: float,
) -> Iterator[Record]:
    """The labelled geometries as records; those that failed or are left out go into `rejected` and `messages`.

    Geometries of one molecule and one kind make one record, from however many samplers; each scan is a record.
    """
    import numpy as np

    from espalike.data.schema import Record
    from espalike.qm.labelling import conformers_of

    by_name: dict[str, list[Task]] = {}
    for task in tasks:
        by_name.setdefault(task.job.name, []).append(task)
    for name, same in by_name.items():
        by_kind = _by_kind(same, disagreement, rejected, messages)
        if not by_kind:
            continue
        job = same[0].job
        charge = lj = None
        if reference is not None:
            try:
                charge, lj = reference(job.molecule)
            except ValueError as error:
                rejected["reference: not covered"] += 1
                messages.append(str(error))
        driven = same[0].sampler().driven
        dihedral = None if driven is None else np.array(driven)
        for kind, labelled in by_kind.items():
            yield Record(
                f"{name}-{kind}" if kind and kind != "scan" else name,
                job.molecule,
                conformers_of(labelled, *origin),
                job.split,
                ref_charge=charge,
                ref_lj=lj,
                dihedral=dihedral,
                kind=kind,
            )


def _audited(records: Iterator[Record], consequence: str, failed: list[dict]) -> Iterator[Record]:
    """The records; after the last one, the audits that failed are in `failed`.

    Raises:
        AuditError: when one failed and the consequence is `error`.
    """
    from espalike.data.audit import Audit, counts_of, refuse_failed

    audit = Audit()
    for record in records:
        audit.see(counts_of(record))
        audit.add(record)
        yield record
    verdicts = [verdict for verdict in audit.verdicts() if verdict.outcome == "failed"]
    if consequence == "error":
        refuse_failed(
            verdicts,
            "The labels are kept, but no store is written. Correct the calculator and label with another out=, or set "
            "audit=warn to store them in spite of this",
        )
    failed += map(asdict, verdicts)


def _by_kind(
    tasks: Sequence[Task], disagreement: float, rejected: Counter[str], messages: list[str]
) -> dict[str, list[Labelled]]:
    """The labels of one entry by the kind of geometry, from one or several samplers."""
    by_kind: dict[str, list[Labelled]] = {}
    far = 0
    for task in tasks:
        for failure in task.directory.failures(task.job):
            rejected[f"label: {failure.reason}"] += 1
            messages.append(failure.message)
        sampler = task.sampler()
        for k, (xyz, label) in task.directory.labels(task.job).items():
            if label.disagreement is not None and label.disagreement.max() > disagreement:
                far += 1
            else:
                by_kind.setdefault(sampler.kind(k), []).append((xyz, label))
    if far:
        rejected["label: members disagree"] += far
        name = tasks[0].job.molecule.name
        messages.append(f"{name}: members disagree by more than {disagreement:g} kcal/mol/Å at {far} geometries")
    return by_kind


def main(argv: Sequence[str] | None = None) -> int:
    """The job on its own: `python -m espalike.cli.label key=value ...`."""
    from espalike.cli.main import main as program

    return program(["label", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
