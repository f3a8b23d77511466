"""`espalike evaluate`: score models and baselines on QM data."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

HELP = """usage: espalike evaluate [key=value ...]

Score model files and baselines against QM energies and forces. Energies are relative to their mean over an entry's
conformers; errors are pooled over conformers and force components; 95 % intervals come from resampling molecules.
All rows are about the entries that every method can describe.

example:
  espalike evaluate model=espalike-small data.path=sample data.split=test baselines=[mmff94,gfn2-xtb] out=runs/scores

  model=PATH|NAME|[...]   model files or shipped models
  baselines=[...]         openff-2.2.1, mmff94, gfn2-xtb, zero (one energy for all conformers, no force)
  data.path=PATH|[...]    stores, HDF5 files, or `sample`: the embedded set
  data.split=test         train, val, test, or null for everything
  data.level=LEVEL        only this level of theory
  terms=true              also what each term of a force field contributes: terms.csv
  out=DIR                 gets table.csv, summary.json, parity.png"""


def run(cfg) -> int:
    """Score, print the table, write `table.csv`, `summary.json` and `parity.png`; 1 when a method failed somewhere."""
    from rich.console import Console

    from espalike.evaluation import plots, table

    console = Console(force_jupyter=False)  # plain text in notebooks too
    predictors, trained_on = _predictors(_names(cfg.models), _names(cfg.baselines))
    records, rejected = read_records(_names(cfg.data.path), cfg.data.split, cfg.data.level)
    if not records:
        asked = f"split {cfg.data.split!r}" + (f" and level {cfg.data.level!r}" if cfg.data.level else "")
        first = f"; {len(rejected)} unreadable, the first: {rejected[0].message}" if rejected else ""
        raise ValueError(f"no entries with {asked} in {', '.join(_names(cfg.data.path))}{first}")
    keys = {record.key for record in records if record.key}
    seen = {name: len(keys & trained) for name, trained in trained_on.items()}
    scores = _predict(records, predictors, console)
    rows = table.table(scores, cfg.resamples, cfg.seed)
    out = Path(cfg.out)
    out.mkdir(parents=True, exist_ok=True)
    table.write_csv([table.flat(row) for row in rows], out / "table.csv")
    _write_json(_summary(cfg, scores, rows, rejected, seen), out / "summary.json")
    panels = {}
    for method in scores.methods:
        e_ref, e_pred, f_ref, f_pred = table.parity(scores, method)
        panels[method] = ((e_ref, e_pred), (f_ref, f_pred))
    plots.parity(panels, out / "parity.png")
    _print(console, scores, rows, cfg.worst)
    written = ["table.csv", "summary.json", "parity.png"]
    if cfg.terms and _terms(console, scores, predictors, out / "terms.csv"):
        written.append("terms.csv")
    for name, count in seen.items():
        if count:
            console.print(f"note: {name} was trained on {count} of these {len(keys)} molecules", style="yellow")
    for entry in rejected:
        console.print(f"not read: {entry.message}", style="red", highlight=False, markup=False, soft_wrap=True)
    console.print(f"wrote {out}/{', '.join(written)}", highlight=False, soft_wrap=True)
    return 1 if scores.failures or rejected else 0


def _names(value) -> list[str]:
    """A setting that may be nothing, one name, several separated by commas, or a list, as a list."""
    if value is None:
        return []
    if isinstance(value, str | os.PathLike):
        return [part.strip() for part in str(value).split(",") if part.strip()]
    return [str(part) for part in value]


def _predictors(models: Sequence[str], baselines: Sequence[str]) -> tuple[dict, dict[str, set[str]]]:
    """Methods by name; and for models, the connectivity keys they were trained on."""
    from espalike.evaluation.predictors import baseline, from_assigner

    if not models and not baselines:
        raise ValueError("nothing to score: give model=PATH, or baselines=[openff-2.2.1,mmff94,gfn2-xtb]")
    found: dict = {}
    trained_on: dict[str, set[str]] = {}
    for path in models:
        from espalike.model import load

        model, name = load(path), _label(path, found)
        found[name] = from_assigner(model.parametrize)
        trained_on[name] = set(model.provenance.split.get("train", ())) if model.provenance else set()
    for name in baselines:
        found[name] = baseline(name)
    return found, trained_on


def _label(path: str, taken) -> str:
    """What the table calls a model: its file's name, or its folder's where the file is just `model.espalike`."""
    file = Path(path)
    name = file.parent.name if file.stem == "model" and file.parent.name else file.stem if file.suffix else path
    return path if name in taken else name


def read_records(paths: Sequence[str], split: str | None, level: str | None) -> tuple[list, list]:
    """Records, and what could not be read, of stores and HDF5 files; ids made unique across files."""
    from dataclasses import replace

    from espalike.data.schema import Record

    records, rejected = [], []
    for path in paths:
        for entry in _read(path, level):
            if not isinstance(entry, Record):
                rejected.append(entry)
            elif split in (None, entry.split) and level in (None, entry.conformers.level):
                name = f"{Path(path).stem}:{entry.id}" if len(paths) > 1 else entry.id
                records.append(replace(entry, id=name))
    return records, rejected


def _read(path: str, level: str | None) -> Iterable:
    """Entries of a store, or of an HDF5 file by its name's ending; `level` labels a file that names none."""
    if Path(path).suffix.lower() in (".h5", ".hdf5"):
        from espalike.data.readers.hdf5 import Hdf5Reader, plain_level

        reader = Hdf5Reader(path)
        named = plain_level(reader.attributes.get("level_of_theory", ""))
        return reader if named or level is None else Hdf5Reader(path, level=level)
    from espalike.data.store import Store

    return Store.open(path).records()


def _predict(records: Sequence, predictors: dict, console):
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from espalike.evaluation.table import predict

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks = {name: progress.add_task(name, total=len(records)) for name in predictors}
        return predict(records, predictors, lambda name: progress.advance(tasks[name]))


def _summary(cfg, scores, rows, rejected, seen) -> dict:
    from dataclasses import asdict
    from importlib.metadata import version

    from omegaconf import OmegaConf

    from espalike.evaluation import table

    return {
        "espalike": version("espalike"),
        "settings": OmegaConf.to_container(cfg, resolve=True),
        "units": {"energy": "kcal/mol", "force": "kcal/mol/angstrom"},
        "entries": len(scores.records),
        "entries_compared": len(scores.common),
        "rows": [table.flat(row) for row in rows],
        "molecules_seen_in_training": seen,
        "rejected": [asdict(entry) for entry in rejected],
        "failures": [asdict(failure) for failure in scores.failures],
        "worst": [
            {key: _number(value) for key, value in asdict(w).items()}
            for method in scores.methods
            for w in table.worst(scores, method, cfg.worst)
        ],
    }


def _number(value):
    return (round(value, 4) if value == value else None) if isinstance(value, float) else value


def _write_json(content: dict, path: Path) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def _print(console, scores, rows, n_worst: int) -> None:
    from itertools import groupby

    from rich.table import Table

    from espalike.evaluation.table import worst

    units = {"energy RMSE": "kcal/mol", "energy MAE": "kcal/mol", "force RMSE": "kcal/mol/Å"}
    for source, group in groupby(rows, key=lambda row: row.source):
        lines = list(group)
        title = f"{source}: {lines[0].molecules} molecules, {lines[0].conformers} conformers [95 % interval]"
        shown = Table("method", title=title, title_justify="left")
        for name, unit in units.items():
            shown.add_column(f"{name}\n\\[{unit}]", justify="right")
        for row in lines:
            shown.add_row(row.method, *(_interval(e) for e in (row.energy_rmse, row.energy_mae, row.force_rmse)))
        console.print(shown)
    if len(scores.common) < len(scores.records):
        console.print(f"rows are about the {len(scores.common)} of {len(scores.records)} entries all methods predicted")
    for method in scores.methods:
        for i, w in enumerate(worst(scores, method, min(n_worst, 3))):
            lead = f"largest errors of {method} (energy / force RMSE):\n" if i == 0 else ""
            text = f"{lead}  {_plain(w.energy_rmse)} / {_plain(w.force_rmse)}  {w.smiles}  ({w.name})"
            console.print(text, highlight=False, markup=False, soft_wrap=True)
    for failure in scores.failures:
        text = f"failed: {failure.method} on {failure.entry}: {failure.reason}"
        console.print(text, style="red", highlight=False, markup=False, soft_wrap=True)


def _terms(console, scores, predictors: dict, path: Path) -> bool:
    """Print and write what each term contributes; whether there was any."""
    from dataclasses import asdict
    from itertools import groupby

    from rich.table import Table

    from espalike.evaluation.table import write_csv
    from espalike.evaluation.terms import contributions

    rows = contributions(scores, predictors)
    for (method, source), group in groupby(rows, key=lambda row: (row.method, row.source)):
        shown = Table("term", title=f"{method} on {source}: root mean square contributions", title_justify="left")
        shown.add_column("energy\n\\[kcal/mol]", justify="right")
        shown.add_column("force\n\\[kcal/mol/Å]", justify="right")
        for row in group:
            shown.add_row(row.term, f"{row.energy_rms:.2f}", f"{row.force_rms:.2f}")
        console.print(shown)
    if rows:
        write_csv([{key: _number(value) for key, value in asdict(row).items()} for row in rows], path)
    return bool(rows)


def _plain(value: float) -> str:
    return f"{value:.2f}" if value == value else "-"


def _interval(estimate) -> str:
    if estimate.value != estimate.value:
        return "-"
    if estimate.low != estimate.low:
        return f"{estimate.value:.2f}"
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"
