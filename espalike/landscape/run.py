"""A landscape: scores and costs of methods in one run, as tables, a picture and a page."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from espalike.bounds import check_number
from espalike.chem.picture import drawing
from espalike.data.schema import Record
from espalike.evaluation import show
from espalike.evaluation.baselines import NotInstalled, is_baseline, names
from espalike.evaluation.interactions import DISTANCES
from espalike.evaluation.metrics import METRICS
from espalike.evaluation.result import Evaluation
from espalike.evaluation.run import evaluate
from espalike.evaluation.table import Row, flat, write_csv
from espalike.files import write
from espalike.landscape import columns, electrostatics, geometries, plane
from espalike.landscape.cost import MIDDLE, PEPTIDES, QM, Cost, cost
from espalike.landscape.hybrids import hybrids
from espalike.landscape.plane import AXES, Point
from espalike.page import page, picture, plot, table
from espalike.qm.base import CalculatorError
from espalike.tables import counted

Say = Callable[[str], None]
"""Takes a message for the user."""
_NO_MINIMA = (
    "no geometry of the data is a minimum of the labels' level of theory, so that none is minimised; "
    "data.path=[sample,MINIMA] adds some"
)


@dataclass(frozen=True, eq=False)
class Landscape:
    """The result.

    Attributes:
        evaluation: errors of all methods but hybrids.
        rows: errors of all methods on the entries that all cover; a hybrid's are those of its potential.
        costs: by method.
        points: the methods on the plane, with those whose labels were scored, at error zero.
        out: the folder with the files.
    """

    evaluation: Evaluation
    rows: tuple[Row, ...]
    costs: Mapping[str, Cost]
    points: tuple[Point, ...]
    out: Path


def landscape(settings: Mapping[str, Any], say: Say = print) -> Landscape:
    """Score methods, measure their cost, and write `report.html`, `table.csv`, `landscape.json` and the plane.

    Args:
        settings: those of `configs/landscape.yaml`, resolved to plain data.
        say: takes messages for the user.

    Raises:
        ValueError: for an unknown metric or a number out of range, or when nothing can be scored.
        FileNotFoundError, ModelFileError, StoreError, ReaderError: see `espalike.evaluation.run.evaluate`.
    """
    if settings["metric"] not in AXES:
        raise ValueError(f"metric={settings['metric']}: expected {' or '.join(AXES)}")
    for name, least in (("rounds", 1), ("geometries", 0), ("conformers", 1)):
        check_number(name, settings[name], least)
    for atoms in settings["water"]:
        check_number("water", atoms, 1000)
    if (labels := settings["labels"]) and not is_baseline(str(labels)):  # its cost is measured last
        raise ValueError(
            f"labels={labels}: expected a calculator, pyscf for instance; calculators: {', '.join(names())}"
        )
    methods = [str(method) for method in settings["methods"]]
    mixed = hybrids(methods)
    baselines = [name for name in methods if name not in mixed and is_baseline(name)]
    models, out = [name for name in methods if name not in mixed and name not in baselines], Path(settings["out"])
    evaluation = evaluate(
        {
            **{key: settings[key] for key in ("data", "resamples", "seed", "worst")},
            "reader": settings.get("reader"),
            "models": models,
            "baselines": baselines,
            "terms": False,
            "out": str(out / "scores"),
        },
        say,
    )
    files = dict(zip(evaluation.models, models, strict=True))  # by their names in the tables
    sources = {name: files.get(name, name) for name in evaluation.scores.methods}
    rows = list(evaluation.common)
    for name, of in mixed.items():
        same = [replace(row, method=name) for row in rows if sources.get(row.method) == of.outer]
        say(f"{name}: errors are those of {of.outer}" if same else f"skipped {name}, as {of.outer} is")
        rows += same
    timed = sources | {row.method: row.method for row in rows if row.method in mixed}
    costs = _costs(timed, settings, say)
    result = Landscape(evaluation, tuple(rows), costs, _points(rows, costs, settings), out)
    _write(result, sources, settings)
    if settings["geometries"] and not geometries.number(result.evaluation.scores.records, 1):
        say(_NO_MINIMA)
    say(f"wrote {out}/report.html, table.csv, landscape.json, plane.png, plane.svg")
    return result


def _costs(sources: Mapping[str, str], settings: Mapping[str, Any], say: Say) -> dict[str, Cost]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    costs: dict[str, Cost] = {}
    water = tuple(settings["water"])
    try:
        with Progress(console=Console(stderr=True), transient=True) as progress:
            for method in progress.track(sources, description="cost"):
                try:
                    costs[method] = cost(sources[method], settings["rounds"], water=water)
                except CalculatorError as error:
                    say(f"no cost of {method}: {error}")
            if settings["labels"]:
                try:
                    costs[settings["labels"]] = cost(settings["labels"], 1, sizes=(1,))
                except (CalculatorError, NotInstalled) as error:
                    say(f"no cost of the labels: {error}")
    finally:
        torch.set_num_threads(threads)
    return costs


def _points(rows: Sequence[Row], costs: Mapping[str, Cost], settings: Mapping[str, Any]) -> tuple[Point, ...]:
    """Errors on the entries of all methods, all sources together, with the cost at the middle size."""
    last = rows[-1].source if rows else ""
    points = []
    for row in rows:
        if row.source == last and row.method in costs:
            error = getattr(row, settings["metric"])
            kind, ms = costs[row.method].kind, _middle(costs[row.method])
            points.append(Point(row.method, kind, ms, error.value, error.low, error.high))
    if (labels := settings["labels"]) in costs:
        points.append(Point(f"{labels} (the labels)", QM, _middle(costs[labels]), 0.0, 0.0, 0.0))
    return tuple(point for point in points if math.isfinite(point.error))


def _middle(of: Cost) -> float:
    """Cost at 52 atoms; of a method that was measured at 22 atoms only, that."""
    return of.ms.get(PEPTIDES[4].n_atoms, next(iter(of.ms.values())))


def _write(result: Landscape, sources: Mapping[str, str], settings: Mapping[str, Any]) -> None:
    evaluation, out = result.evaluation, result.out
    scores = evaluation.scores
    title = f"{counted(len(scores.covered(*scores.methods)), 'entry', 'entries')} of {settings['data']['path']}"
    figure = plane.draw(result.points, settings["metric"], title)
    plane.write(figure, out)
    lines = []
    for row in result.rows:
        of = result.costs.get(row.method)
        ms = {f"ms_{atoms}": round(value, 5) for atoms, value in of.ms.items()} if of else {}
        every = {f"ms_{peptide.n_atoms}": None for peptide in PEPTIDES.values()}
        wet = {f"water_ms_{size}": _near(of, size) for size in settings["water"]}
        lines.append({**flat(row), "kind": of.kind if of else None, **every, **ms, **wet})
    write_csv(lines, out / "table.csv")
    groups = columns.by_group(scores, METRICS.index(settings["metric"]))
    profiles = columns.profiles(scores)
    moved, electric = _computed(scores.records, sources, settings)
    data = {
        "settings": dict(settings),
        "rows": lines,
        "costs": {name: asdict(of) for name, of in result.costs.items()},
        "groups": groups,
        "profiles": profiles,
        "geometries": moved,
        "electrostatics": electric,
        "skipped": dict(evaluation.skipped),
    }
    write(out / "landscape.json", json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    parts = [
        f"<p>{counted(len(scores.records), 'entry', 'entries')} of {settings['data']['path']}, "
        f"split {settings['data']['split']}. "
        f"Errors are on the entries that all methods cover; {show.UNITS}.</p>",
        plot(figure, "error against cost"),
        "<h2>Errors</h2>",
        _errors(result),
        *_costs_table(result.costs, settings["water"]),
        *(f"<p>skipped {reason}</p>" for reason in evaluation.skipped.values()),
        *_section(f"{AXES[settings['metric']]} by functional group", groups),
        *_section("Torsion profiles [kcal/mol, degree]", profiles),
        *([f"<p>{_NO_MINIMA}</p>"] if settings["geometries"] and not moved else []),
        *_section("Minimised from QM geometries: RMSD, bonds [Å], angles, torsions [degree], ddE [kcal/mol]", moved),
        *_section("Dipole moments [debye] and electrostatic potentials [kcal/mol/e], RMSE", electric),
        *_interactions(evaluation),
        *_worst(evaluation),
    ]
    write(out / "report.html", page("The landscape: accuracy against cost", parts))


def _computed(
    records: Sequence[Record], sources: Mapping[str, str], settings: Mapping[str, Any]
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """Columns for which methods compute more than energies and forces of the entries."""
    count, most = settings["geometries"], settings["conformers"]
    total = geometries.number(records, count) + electrostatics.number(records)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("geometries, dipole moments", total=total * len(sources))
        tick = lambda: progress.advance(task)  # noqa: E731
        moved = geometries.geometries(records, sources, count, tick, most)
        return moved, electrostatics.electrostatics(records, sources, tick)


def _near(of: Cost | None, atoms: int) -> float | None:
    """Cost of a step in the box of water that was made for this number of atoms."""
    found = {size: ms for size, ms in of.water.items() if abs(size - atoms) < 0.2 * atoms} if of else {}
    return round(next(iter(found.values())), 4) if found else None


def _errors(result: Landscape) -> str:
    rows = []
    for row in result.rows:
        errors = [f"{e.value:.2f} [{e.low:.2f}, {e.high:.2f}]" for e in (row.energy_rmse, row.force_rmse)]
        rows.append([row.method, row.source, row.molecules, row.conformers, *errors])
    return table(["method", "source", "molecules", "geometries", "energy RMSE", "force RMSE"], rows)


def _costs_table(costs: Mapping[str, Cost], water: Sequence[int]) -> list[str]:
    sizes = [peptide.n_atoms for peptide in PEPTIDES.values()]
    header = [
        "method",
        *(f"ms, {n} atoms" for n in sizes),
        *(f"step in water, {n} atoms [ms]" for n in water),
        f"parameters, {MIDDLE} atoms [ms]",
    ]
    rows = []
    for method, of in costs.items():
        values = [*(of.ms.get(n) for n in sizes), *(_near(of, n) for n in water), of.parametrize]
        rows.append([method, *("–" if value is None else f"{value:.3g}" for value in values)])
    return ["<h2>Cost</h2>", table(header, rows)]


def _section(title: str, values: Mapping[str, Mapping[str, float]]) -> list[str]:
    return [f"<h2>{title}</h2>", table(*columns.rows_of(values))] if values else []


def _interactions(evaluation: Evaluation) -> list[str]:
    near = next(iter(DISTANCES))
    rows = [
        (row.name, row.method, row.complexes, f"{row.mae.value:.2f}", f"{row.bias:+.2f}")
        for row in evaluation.interaction_rows
        if row.distance == near
    ]
    header = ("complexes", "method", "number", "MAE [kcal/mol]", "bias")
    return [f"<h2>Interaction energies, {near} of equilibrium</h2>", table(header, rows)] if rows else []


def _worst(evaluation: Evaluation) -> list[str]:
    parts = []
    for method in evaluation.scores.methods:
        cards = "".join(
            f"<div class='card'>{picture(drawing(w.smiles), w.smiles)}<br>{w.energy_rmse:.2f} kcal/mol, "
            f"{w.force_rmse:.2f} kcal/mol/Å</div>"
            for w in evaluation.worst
            if w.method == method
        )
        if cards:
            parts.append(f"<h2>Largest errors of {method}</h2><div class='cards'>{cards}</div>")
    return parts
