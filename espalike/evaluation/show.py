"""Tables of an evaluation for people: on a terminal, as text, in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from io import StringIO
from itertools import groupby, islice

from rich.console import Console
from rich.table import Column, Table

from espalike.evaluation.metrics import Estimate
from espalike.evaluation.table import Row, Worst
from espalike.evaluation.terms import Contribution

_COLUMNS = (("energy RMSE", "kcal/mol"), ("energy MAE", "kcal/mol"), ("force RMSE", "kcal/mol/Å"))


def errors(rows: Sequence[Row], remark: str = "") -> list[Table]:
    """A table per source; with numbers of molecules for each method if they differ."""
    tables = []
    for source, group in groupby(rows, key=lambda row: row.source):
        lines = list(group)
        counts = {(row.molecules, row.conformers) for row in lines}
        title = f"{source}{remark}"
        if len(counts) == 1:
            title += f": {lines[0].molecules} molecules, {lines[0].conformers} conformers"
        method = Column("method", overflow="fold", min_width=max(len(row.method) for row in lines))
        shown = Table(method, title=f"{title} \\[95 % interval]", title_justify="left")
        for name, unit in _COLUMNS:
            shown.add_column(f"{name}\n\\[{unit}]", justify="right")
        if len(counts) > 1:
            shown.add_column("molecules\n(conformers)", justify="right")
        for row in lines:
            numbers = (f"{row.molecules} ({row.conformers})",) if len(counts) > 1 else ()
            shown.add_row(row.method, *_cells(row), *numbers)
        tables.append(shown)
    return tables


def contributions(rows: Sequence[Contribution]) -> list[Table]:
    """A table of terms per method and source."""
    tables = []
    for (method, source), group in groupby(rows, key=lambda row: (row.method, row.source)):
        shown = Table("term", title=f"{method} on {source}: root mean square contributions", title_justify="left")
        shown.add_column("energy\n\\[kcal/mol]", justify="right")
        shown.add_column("force\n\\[kcal/mol/Å]", justify="right")
        for row in group:
            shown.add_row(row.term, f"{row.energy_rms:.2f}", f"{row.force_rms:.2f}")
        tables.append(shown)
    return tables


def worst(entries: Sequence[Worst], count: int = 3) -> str:
    """A line per entry, for the first entries of each method."""
    lines = []
    for method, group in groupby(entries, key=lambda entry: entry.method):
        lines.append(f"largest errors of {method} (energy / force RMSE):")
        lines += [
            f"  {_plain(w.energy_rmse)} / {_plain(w.force_rmse)}  {w.smiles}  ({w.name})" for w in islice(group, count)
        ]
    return "\n".join(lines)


def text(tables: Sequence[Table], width: int = 120) -> str:
    """Tables as plain text."""
    console = Console(file=StringIO(), width=width, force_jupyter=False)
    for shown in tables:
        console.print(shown)
    return console.file.getvalue().rstrip()  # type: ignore[attr-defined]


def html(rows: Sequence[Row]) -> str:
    """Rows as an HTML table."""
    head = ["method", "source", "molecules", "conformers", *(f"{name} [{unit}]" for name, unit in _COLUMNS)]
    lines = [[row.method, row.source, str(row.molecules), str(row.conformers), *_cells(row)] for row in rows]
    body = [_html_row("th", head), *(_html_row("td", line) for line in lines)]
    return f"<table>{''.join(body)}</table>"


def _html_row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _cells(row: Row) -> list[str]:
    return [_interval(estimate) for estimate in (row.energy_rmse, row.energy_mae, row.force_rmse)]


def _plain(value: float) -> str:
    return f"{value:.2f}" if value == value else "-"


def _interval(estimate: Estimate) -> str:
    if estimate.value != estimate.value or estimate.low != estimate.low:
        return _plain(estimate.value)
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"
