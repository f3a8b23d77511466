"""An evaluation: from settings to tables and pictures, as `espalike evaluate` and `espalike.evaluate` do it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from espalike.bounds import check_number
from espalike.chem.complexes import is_complex
from espalike.data.audit import Audit, refuse_failed
from espalike.data.inputs import ReaderOf, checked, open_data, reader_of
from espalike.data.readers.base import Reader
from espalike.data.readers.kinds import which_reader
from espalike.data.schema import SPLITS, Record, Rejection
from espalike.domain import ChemicalDomain
from espalike.evaluation import interactions, plots, remarks, table
from espalike.evaluation.baselines import NotInstalled, baseline, label_of
from espalike.evaluation.predictors import ForceField, Predictor
from espalike.evaluation.result import Evaluation
from espalike.evaluation.terms import contributions
from espalike.files import made, names_in, write
from espalike.model import load

T = TypeVar("T")
Say = Callable[[str], None]
"""Takes a message for the user."""


def evaluate(settings: Mapping[str, Any], say: Say = print) -> Evaluation:
    """Score models and baselines, and write tables and a picture to the folder `settings["out"]`.

    A baseline that lacks parameters for some entries, or is not installed, is reported and does not change what the
    other methods are compared on.

    Args:
        settings: the settings of `configs/evaluate.yaml`, resolved to plain data (dicts, lists, numbers, text).
        say: takes messages for the user.

    Raises:
        ValueError: when nothing can be scored: no model and no installed baseline, no entries, or no results.
        FileNotFoundError, ModelFileError, StoreError, ReaderError: for a model or data that cannot be read.
    """
    for name, least in (("resamples", 0), ("seed", 0), ("worst", 0)):
        check_number(name, settings[name], least)
    level = settings.get("level")
    predictors, trained_on, domains, levels = _models(_names(settings["models"]), level)
    models, skipped = tuple(predictors), _add_baselines(settings["baselines"], predictors, say)
    if not predictors:
        raise ValueError(
            "nothing to score: give model=PATH, or baselines=[openff-2.2.1,mmff94,gfn2-xtb]"
            + "".join(f"; skipped {reason}" for reason in skipped.values())
        )
    records, rejected = read_records(settings["data"], settings.get("reader"))
    out = made(Path(settings["out"]))
    keys = {record.key for record in records if record.key}
    complexes = [record for record in records if is_complex(record.molecule)]
    between = _predict(complexes, predictors, interactions.predict) if complexes else None
    scores = _predict([r for r in records if not is_complex(r.molecule)], predictors, table.predict)
    sampling = (settings["resamples"], settings["seed"])
    rows = tuple(table.table(scores, *sampling)) if scores.records else ()
    common = rows
    if not scores.complete:
        common = tuple(table.table(scores, *sampling, common=True))
    outside = _outside(scores.records, domains)
    within = scores.without(outside)
    inside = tuple(table.table(within, *sampling, common=True)) if outside and within.methods else ()
    result = Evaluation(
        rows=rows,
        common=common,
        inside=inside,
        outside=outside,
        scores=scores,
        models=models,
        skipped=skipped,
        rejected=rejected,
        seen={name: len(keys & trained) for name, trained in trained_on.items()},
        familiar={name: _familiar(complexes, trained) for name, trained in trained_on.items()} if complexes else {},
        contributions=tuple(contributions(scores, predictors)) if settings["terms"] else (),
        worst=tuple(w for method in scores.methods for w in table.worst(scores, method, settings["worst"])),
        out=out,
        interactions=between,
        interaction_rows=tuple(interactions.rows(between, *sampling)) if between else (),
    )
    written = _write(result, settings)
    remarks.report(result, len(keys), say)
    remarks.report_repeated(records, say)
    remarks.report_levels(scores.records, {name: (level or of[0], of) for name, of in levels.items()}, say)
    say(f"wrote {result.out}/{', '.join(written)}")
    return result


def _names(value: Any) -> list:
    """A setting that is None, a name, several names separated by commas, or a list, as a list."""
    if value is None:
        return []
    if isinstance(value, str | os.PathLike):
        return names_in(str(value))
    return [value] if isinstance(value, Mapping) else list(value)


def _models(
    names: Sequence[str], level: str | None
) -> tuple[dict[str, Predictor], dict[str, set[str]], list[ChemicalDomain], dict[str, tuple[str, ...]]]:
    """Models by the name that the tables have, connectivity keys of their training molecules, domains, and levels.

    Raises:
        ValueError: when a model was not trained with this level of theory.
    """
    predictors: dict[str, Predictor] = {}
    trained_on: dict[str, set[str]] = {}
    domains: list[ChemicalDomain] = []
    levels: dict[str, tuple[str, ...]] = {}
    paths = [str(name) for name in names]
    short = [_short(path) for path in paths]
    for path, name in zip(paths, short, strict=True):
        model = load(path)
        name = path if short.count(name) > 1 else name
        _refuse_twice(name, predictors)
        try:
            model.level_index(level)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        predictors[name] = ForceField(partial(model.parametrize, level=level))
        trained_on[name] = set(model.provenance.split.get("train", ())) if model.provenance else set()
        levels[name] = tuple(model.levels)
        domains += [model.provenance.domain] if model.provenance else []
    return predictors, trained_on, domains, levels


def _familiar(complexes: Sequence[Record], trained: Collection[str]) -> int:
    """Number of complexes of which every molecule is in a complex of the training data."""
    known = {part for key in trained if "+" in key for part in key.split("+")}
    return sum(known.issuperset(record.key.split("+")) for record in complexes)


def _outside(records: Sequence[Record], domains: Sequence[ChemicalDomain]) -> tuple[str, ...]:
    """Entries whose molecules are outside the chemical domain of a model."""

    def is_outside(record: Record) -> bool:
        try:
            return any(domain.check(record.molecule) for domain in domains)
        except ValueError:  # a molecule that the domain refuses
            return True

    return tuple(record.id for record in records if is_outside(record))


def _short(path: str) -> str:
    """A file that is just called `model.espalike` has the name of its folder, another one its own."""
    file = Path(path)
    if file.stem == "model" and file.parent.name:
        return file.parent.name
    return file.stem if file.suffix else path


def _add_baselines(entries: Any, predictors: dict[str, Predictor], say: Say) -> dict[str, str]:
    """Add the baselines to the predictors; those that are not installed are returned with the reason."""
    skipped = {}
    for entry in _names(entries):
        name = label_of(entry)
        _refuse_twice(name, predictors)
        try:
            predictors[name] = baseline(entry)
        except NotInstalled as error:
            skipped[name] = str(error)
            say(f"skipped {error}")
    return skipped


def _refuse_twice(name: str, predictors: Mapping[str, Predictor]) -> None:
    if name in predictors:
        raise ValueError(
            f"two methods are called {name}; a baseline's name in the tables can be chosen: "
            "baselines=[{calculator: NAME, label: OTHER, ...}]"
        )


def read_records(data: Mapping[str, Any], reader: Mapping[str, Any] | None = None) -> tuple[list, tuple]:
    """Records of the requested split and level, and what was left out.

    Files, unlike stores, get the checks of an ingest: its default filters and its audits.

    Args:
        data: `path` (one or several), `split`, `level` and `audit`, as in `configs/evaluate.yaml`.
        reader: settings of the reader of files; see `espalike.data.inputs.open_data`.

    Raises:
        ValueError: when there are no such entries, or `audit` is something else.
        AuditError: when labels of a file have a wrong unit or sign.
    """
    paths, split, level = _names(data["path"]), data["split"], data["level"]
    places = [Path(path).resolve() for path in paths]
    consequence = data.get("audit", "error")
    if consequence not in ("error", "off"):
        raise ValueError(f"data.audit={consequence}: expected error or off")
    records: list[Record] = []
    rejected: list[Rejection] = []
    taken: set[str] = set()
    audit = Audit()
    if twice := next((path for n, path in enumerate(paths) if Path(path).resolve() in places[:n]), None):
        raise ValueError(f"data.path has {twice} twice, and its entries would count twice; give it once")
    for path in paths:
        entries = _entries(path, reader_of(reader), level)
        for entry in checked(entries, audit) if isinstance(entries, Reader) else entries:
            if isinstance(entry, Rejection):
                rejected.append(entry)
            elif split in (None, entry.split) and level in (None, entry.conformers.level):
                name = f"{Path(path).stem}:{entry.id}" if len(paths) > 1 else entry.id
                while name in taken:
                    name += "'"
                taken.add(name)
                records.append(replace(entry, id=name))
    if consequence == "error":
        refuse_failed(audit.verdicts(), "To evaluate in spite of this, set data.audit=off")
    if not records:
        requested = f"split {split!r}" + (f" and level {level!r}" if level else "")
        first = f"; {len(rejected)} left out, the first: {rejected[0].message}" if rejected else ""
        known = "" if split in (None, *SPLITS) else f"; splits: {', '.join(SPLITS)}"
        raise ValueError(f"no entries with {requested} in {', '.join(map(str, paths))}{known}{first}")
    return records, tuple(rejected)


def _entries(path: str, reader: ReaderOf | None, level: str | None):
    entries = open_data(path, reader, level)
    if entries is None:
        raise ValueError(
            f"{path}: not a store, and no HDF5 file by its name; {which_reader(Path(path))}"
            if Path(path).exists()
            else f"{path}: no such file or store"
        )
    return entries


def _predict(records: Sequence[Record], predictors: Mapping[str, Predictor], predict: Callable[..., T]) -> T:
    """Results of every method, with a progress bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks = {name: progress.add_task(name, total=len(records)) for name in predictors}
        return predict(records, predictors, lambda name: progress.advance(tasks[name]))


def _write(result: Evaluation, settings: Mapping[str, Any]) -> list[str]:
    """Write the files; their names."""
    out = result.out
    tables: dict[str, list[dict]] = {
        "table.csv": [table.flat(row) for row in result.rows],
        "common.csv": [] if result.common is result.rows else [table.flat(row) for row in result.common],
        "inside.csv": [table.flat(row) for row in result.inside],
        "interactions.csv": [interactions.flat(row) for row in result.interaction_rows],
        "terms.csv": [{key: _rounded(value) for key, value in asdict(row).items()} for row in result.contributions],
    }
    for name, lines in tables.items():
        if lines:
            table.write_csv(lines, out / name)
        else:
            (out / name).unlink(missing_ok=True)  # of an earlier evaluation
    write(out / "summary.json", json.dumps(_summary(result, settings), indent=1, ensure_ascii=False) + "\n")
    names = [*(name for name, lines in tables.items() if lines), "summary.json"]
    if not result.scores.records:
        return names
    plots.parity({m: table.parity(result.scores, m) for m in result.scores.methods}, out / "parity.png")
    return [*names, "parity.png"]


def _summary(result: Evaluation, settings: Mapping[str, Any]) -> dict[str, Any]:
    scores = result.scores
    return {
        "espalike": version("espalike"),
        "settings": dict(settings),
        "units": {"energy": "kcal/mol", "force": "kcal/mol/angstrom"},
        "entries": len(scores.records),
        "entries_compared": len(scores.covered(*scores.methods)),
        "rows": [table.flat(row) for row in result.rows],
        "common": [table.flat(row) for row in result.common],
        "inside": [table.flat(row) for row in result.inside],
        "outside_domain": list(result.outside),
        "interactions": [interactions.flat(row) for row in result.interaction_rows],
        "molecules_seen_in_training": dict(result.seen),
        "complexes_of_molecules_seen_in_complexes": dict(result.familiar),
        "skipped": dict(result.skipped),
        "rejected": [asdict(entry) for entry in result.rejected],
        "failures": [asdict(failure) for failure in result.every_failure],
        "worst": [{key: _rounded(value) for key, value in asdict(w).items()} for w in result.worst],
    }


def _rounded(value: Any) -> Any:
    return (round(value, 4) if value == value else None) if isinstance(value, float) else value
