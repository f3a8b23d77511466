"""An evaluation as text, and as HTML for notebooks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import groupby, islice

from espalike.evaluation.interactions import DISTANCES
from espalike.evaluation.interactions import Row as InteractionRow
from espalike.evaluation.metrics import Estimate
from espalike.evaluation.table import Row, Worst
from espalike.evaluation.terms import Contribution
from espalike.tables import counted, html_table, text_table

UNITS = "energies in kcal/mol, forces in kcal/mol/Å, 95 % intervals"


def errors(rows: Sequence[Row], remark: str = "") -> str:
    """A table per source; with the numbers of molecules of each method if they differ."""
    tables = []
    for source, group in groupby(rows, key=lambda row: row.source):
        lines = list(group)
        differ = len({(row.molecules, row.conformers) for row in lines}) > 1
        title = f"{source}{remark}"
        if not differ:
            title += f": {counted(lines[0].molecules, 'molecule')}, {counted(lines[0].conformers, 'conformer')}"
        cells = [{"method": row.method, **_errors(row), **(_counts(row) if differ else {})} for row in lines]
        tables.append(f"{title}\n{text_table(cells)}")
    return "\n\n".join(tables)


def html(rows: Sequence[Row]) -> str:
    """The rows as an HTML table."""
    return html_table([{"source": row.source, "method": row.method, **_errors(row), **_counts(row)} for row in rows])


def interactions(rows: Sequence[InteractionRow], total: int) -> str:
    """A table of interaction energies per range of distances: sets, then kinds of interactions, each with all methods.

    Errors at all distances together depend on the shortest ones only; they are in the file alone.

    Args:
        rows: results of `interactions.rows`.
        total: number of complexes in the data.
    """
    compared = max((row.complexes for row in rows), default=0)
    tables = [f"Interaction energies of the {compared} of {total} complexes that all methods cover"]
    for distance in list(DISTANCES)[:-1]:
        lines = [
            {
                "complexes": row.name,
                "method": row.method,
                "MAE": _interval(row.mae),
                "RMSE": _interval(row.rmse),
                "number": row.complexes,
                "points": row.points,
            }
            for row in rows
            if row.distance == distance
        ]
        if lines:
            tables.append(f"distances {distance} of equilibrium\n{text_table(lines)}")
    return "\n\n".join(tables)


def contributions(rows: Sequence[Contribution]) -> str:
    """A table of terms per method and source."""
    tables = []
    for (method, source), group in groupby(rows, key=lambda row: (row.method, row.source)):
        lines = [{"term": c.term, "energy": f"{c.energy_rms:.2f}", "force": f"{c.force_rms:.2f}"} for c in group]
        tables.append(f"{method} on {source}: root mean square contributions\n{text_table(lines)}")
    return "\n\n".join(tables)


def worst(entries: Sequence[Worst], outside: Collection[str] = (), count: int = 3) -> str:
    """A line per entry, for the first entries of each method; with a remark on those outside a model's domain."""
    lines = []
    for method, group in groupby(entries, key=lambda entry: entry.method):
        lines.append(f"largest errors of {method} (energy / force RMSE):")
        for w in islice(group, count):
            remark = ", outside the domain" if w.entry in outside else ""
            lines.append(f"  {_plain(w.energy_rmse)} / {_plain(w.force_rmse)}  {w.smiles}  ({w.name}){remark}")
    return "\n".join(lines)


def _errors(row: Row) -> dict[str, object]:
    return {
        "energy RMSE": _interval(row.energy_rmse),
        "energy MAE": _interval(row.energy_mae),
        "force RMSE": _interval(row.force_rmse),
    }


def _counts(row: Row) -> dict[str, object]:
    return {"molecules": row.molecules, "conformers": row.conformers}


def _plain(value: float) -> str:
    return f"{value:.2f}" if value == value else "-"


def _interval(estimate: Estimate) -> str:
    if estimate.value != estimate.value or estimate.low != estimate.low:
        return _plain(estimate.value)
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"
