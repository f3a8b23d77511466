"""A force field fitted to a few molecules: labels, fit, check, files and report, as `espalike bespoke` does it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from espalike import export, files, settings
from espalike.bounds import check_number
from espalike.chem import Entry, Source, safe_names, several
from espalike.chem.complexes import is_complex
from espalike.data.store import Store, write_store
from espalike.devices import on_cpu
from espalike.evaluation.baselines import names as calculators
from espalike.export import ligands
from espalike.fitting import labels
from espalike.fitting.check import compared, own_scans, worse_torsions
from espalike.fitting.fit import fit
from espalike.fitting.report import write_report
from espalike.fitting.result import Fitted
from espalike.model import DEFAULT, DomainError, ForceFieldModel, ParameterError, find, load
from espalike.modelfile import describe
from espalike.qm.labelling import Job

EPOCHS = 200
_FIRST_EPOCHS = 100
"""Epochs of the first fit, on which more geometries are sampled."""
_NOTES_SHOWN = 3


@on_cpu()
def bespoke(
    molecules: Source | Iterable[Source],
    out: str | os.PathLike = "bespoke",
    *,
    teacher: str = "aimnet2",
    model: str | os.PathLike = DEFAULT,
    format: str | Sequence[str] = "system",
    smiles: str | None = None,
    jobs: int = 1,
    epochs: int = EPOCHS,
    overrides: Sequence[str] = (),
) -> Fitted:
    """Fit a force field to molecules, as `espalike bespoke` does; model, files and report are written to a folder.

    Args:
        molecules: a SMILES, a file, a molecule of espalike, RDKit or OpenFF, or a list of these; all of them are
            fitted together.
        out: the folder. Labels and fits that a stopped run left there are used.
        teacher: name of the calculator that labels: `aimnet2`, `gfn2-xtb`, `mmff94`, …
        model: shipped name or file of the model that the fit begins at, and is pulled to.
        format: format or formats of the force-field files; see `espalike.export.FORMATS`.
        smiles: bond orders and charges of a PDB.
        jobs: number of processes that label.
        epochs: how often the final fit uses each label.
        overrides: more settings of the fit, in the syntax of `espalike train`.

    Returns:
        Errors before and after the fit [kcal/mol, kcal/mol/Å] (`scores`), files (`results`), and `worse`, the errors
        that are larger than before: if there are any, the fit is not kept.

    Raises:
        ValueError: for an unknown teacher or format, when no molecule can be fitted, listing why, or when the folder
            holds labels that were made with other settings.
        TypeError: for a teacher or a model that is not given by its name.
        FileNotFoundError: for an unknown model, or a teacher whose weights are not installed.
    """
    _, sources = several(molecules)
    formats = export.formats_of(format)
    for setting, value in (("jobs", jobs), ("epochs", epochs)):
        check_number(setting, value, 1)
    settings.made.cache_clear()  # files that settings name may have changed since an earlier fit
    start, run = load(model).double(), Fitted(Path(out), os.fspath(model))
    run.refused = dict(export.refusals(start.terms, formats))
    if len(run.refused) == len(formats):
        raise ValueError(export.refusal(start.terms, formats))
    teach = labels.Teacher(_calculator(teacher), run.out / "work" / "labels", jobs, run.left_out)
    run.teacher = teach.level
    entries = _readable(list(ligands.read(sources, smiles)), start, run)
    run.out.mkdir(parents=True, exist_ok=True)
    with _one_thread(), files.only_one(run.out, "fit"):
        entries = _known_to(teach, entries, run)
        fitted = _fit(teach, _jobs(entries), run, epochs, overrides)
        _check(teach, _jobs(entries), run, start, fitted)
        with run.timed("files"):
            files.write(run.model, Path(find(run.start) if run.worse else fitted).read_bytes())
            _export(entries, run, [name for name in formats if name not in run.refused])
        write_report(run, start, load(fitted).double())
    return run


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread of torch for a while: more are slower at these sizes, and other programs run, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _calculator(name: str) -> dict[str, Any]:
    """Settings of a calculator by its name."""
    known = [each for each in calculators() if each != "zero"]
    if not isinstance(name, str):
        raise TypeError(f"teacher: expected the name of a calculator, got {type(name).__name__}: {', '.join(known)}")
    if name not in known:
        raise ValueError(f"no teacher {name!r}; {settings.suggest(name, known)}teachers: {', '.join(known)}")
    found = settings.compose("label", [f"calculator={name}", "input=none", "out=none"])["calculator"]
    if lacking := [key for key, value in found.items() if value == "???"]:
        raise ValueError(f"teacher {name}: needs settings ({', '.join(lacking)}); use `espalike label` and `train`")
    return dict(found)


def _readable(entries: Sequence[tuple[str, Entry]], start: ForceFieldModel, run: Fitted) -> list[tuple[str, Entry]]:
    """The molecules whose elements the start model knows, each once, under names that are safe for files."""
    kept: dict[str, tuple[str, Entry]] = {}
    names = safe_names([entry.name for _, entry in entries])
    for name, (source, entry) in zip(names, entries, strict=True):
        if entry.molecule is None:
            run.failed[name] = str(entry.error)
            continue
        molecule = replace(entry.molecule, name=name)
        if is_complex(molecule):
            run.failed[name] = f"{name}: several molecules in one entry; expected one, without counter-ions or solvent"
            continue
        try:
            remarks = start.domain.check(molecule) if start.domain.elements else ()
        except DomainError as error:
            run.failed[name] = str(error)
            continue
        if molecule.smiles in kept:
            continue
        kept[molecule.smiles] = (source, replace(entry, name=name, molecule=molecule))
        run.notes[name] = list(entry.notes)
        if remarks:
            more = f"; and {len(remarks) - _NOTES_SHOWN} more" if len(remarks) > _NOTES_SHOWN else ""
            shown = "; ".join(remarks[:_NOTES_SHOWN])
            run.notes[name].append(f"outside the domain of {run.start}, and fitted: {shown}{more}")
    return list(kept.values())


def _jobs(entries: Sequence[tuple[str, Entry]]) -> list[Job]:
    return [Job(entry.name, entry.molecule) for _, entry in entries if entry.molecule is not None]


def _known_to(teach: labels.Teacher, entries: Sequence[tuple[str, Entry]], run: Fitted) -> list[tuple[str, Entry]]:
    """The molecules that the teacher can label.

    Raises:
        ValueError: when there are none.
    """
    with run.timed("labels"):
        run.failed |= teach.refused(_jobs(entries), run.start, "round-1")
    kept = [(source, entry) for source, entry in entries if entry.name not in run.failed]
    if not kept:
        raise ValueError("no molecule can be fitted: " + "; ".join(run.failed.values()))
    run.molecules = [job.molecule for job in _jobs(kept)]
    return kept


def _fit(teach: labels.Teacher, jobs: Sequence[Job], run: Fitted, epochs: int, overrides: Sequence[str]) -> Path:
    """The file of the fitted model: fitted to geometries of the start model, then also to those of the first fit."""
    work, model, stores = run.out / "work", run.start, []
    # four networks that are fitted to the same labels are no better than one
    one = ["member=1"] if describe(find(run.start))["members"] > 1 else []
    for number, parts in enumerate(labels.FIT, start=1):
        with run.timed("labels"):
            folder = f"round-{number}" if number == 1 else f"round-{number}-{Path(model).stem}"
            records = teach.records(parts, jobs, model, folder, "train")
            run.fitted += sum(len(record.conformers.energy) for record in records)
            if records:  # else bonds break on the first fit
                stores.append(_stored(work / "store" / f"round-{number}", records, run))
        with run.timed("fit"):
            last = number == len(labels.FIT)
            length = epochs if last else min(epochs, _FIRST_EPOCHS)
            model = str(fit(run.start, stores, work / f"fit-{number}", length, [*one, *overrides]))
    return Path(model)


def _stored(path: Path, records: Sequence[Any], run: Fitted) -> Store:
    manifest = {"licence": "not stated", "origin": f"labelled by {run.teacher}", "command": "espalike bespoke"}
    return write_store(path, records, manifest=manifest)


def _check(teach: labels.Teacher, jobs: Sequence[Job], run: Fitted, start: ForceFieldModel, fitted: Path) -> None:
    """Errors on held-out geometries; scans also on those that the fitted model relaxes by itself."""
    with run.timed("labels"):
        held_out = teach.records(labels.HELD_OUT, jobs, run.start, "held-out", "test")
        own = teach.records(labels.OWN_SCAN, jobs, str(fitted), f"own-{fitted.stem}", "test")
        _stored(run.out / "work" / "store" / "held-out", held_out, run)
    run.held_out = sum(len(record.conformers.energy) for record in (*held_out, *own))
    scans = sum(record.kind == "scan" for record in held_out)
    if len(own) < scans:
        run.faults.append(f"{scans - len(own)} of {scans} torsion scans fail on the fitted model")
    with run.timed("check"):
        models = (start, load(fitted).double())
        try:
            scores, profiles = compared(held_out, *models, geometries="start")
            more, others = compared(own, *models, geometries="fitted")
        except ParameterError as error:
            run.faults.append(str(error))
            return
    run.scores, run.profiles = [*scores, *own_scans(scores, more)], [*profiles, *others]
    for name, note in worse_torsions(run.profiles):
        run.notes.setdefault(name, []).append(note)


def _export(entries: Sequence[tuple[str, Entry]], run: Fitted, formats: Sequence[str]) -> None:
    model = load(run.model).double()
    charges = ligands.charge_source("model", model, len(entries))
    done = ligands.parametrize(entries, model, str(run.model), charges, ligands.Output(run.out, tuple(formats)))
    run.results = [one.result for one in done]
    for result in run.results:
        if result.status == "failed":
            run.failed[result.name] = str(result.reason)
