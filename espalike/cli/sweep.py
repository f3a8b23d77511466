"""Results of a sweep, whose runs may take place in other processes: a ranked table and an exit status."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from espalike import files
from espalike.training.tables import write_rows

_RESULT = "run.json"


def note(out: str, number: int, overrides: list[str], status: int, value: float | None) -> None:
    """Write the result of one run to its own folder: the sweep may have sent the run to another machine."""
    settings = dict(part for part in (override.split("=", 1) for override in overrides) if len(part) == 2)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    files.write(folder / _RESULT, json.dumps({"run": number, "status": status, "value": value, **settings}))


def ranked(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The runs in their order, each with its rank: 1 for the lowest value, none for a run without a value."""
    order = sorted((row["value"], row["run"]) for row in rows if row["value"] is not None)
    ranks = {run: rank for rank, (_, run) in enumerate(order, start=1)}
    return [{"rank": ranks.get(row["run"]), **row} for row in sorted(rows, key=lambda row: row["run"])]


def _show(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the runs, best first, with the settings in which they differ."""
    from rich.console import Console
    from rich.table import Table as RichTable

    names = dict.fromkeys(name for row in rows for name in row if name not in ("rank", "run", "status", "value"))
    varied = [name for name in names if len({row.get(name) for row in rows}) > 1]
    table = RichTable("rank", "run", "lowest validation loss", *varied)
    for row in sorted(rows, key=lambda row: (row["rank"] or len(rows) + 1, row["run"])):
        value = "failed" if row["status"] else "" if row["value"] is None else f"{row['value']:.4g}"
        table.add_row(str(row["rank"] or ""), str(row["run"]), value, *(row.get(name, "") for name in varied))
    Console(markup=False).print(table)


class Table(Callback):
    """Hydra's callback in the first process of a sweep: writes `sweep.csv`, prints it, and exits with its status."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Remove the results of an earlier sweep in the same folder."""
        for old in Path(config.hydra.sweep.dir).glob(f"*/{_RESULT}"):
            old.unlink()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write and print the table.

        Raises:
            SystemExit: hydra returns nothing from a sweep. Status 0 when all runs succeeded, 2 when none did, else 1.
        """
        out = Path(config.hydra.sweep.dir)
        rows = ranked([json.loads(path.read_text()) for path in out.glob(f"*/{_RESULT}")])
        write_rows(out / "sweep.csv", rows)
        if any(row["rank"] for row in rows):
            _show(rows)
        print(f"wrote {out / 'sweep.csv'}")
        statuses = [row["status"] for row in rows] or [2]
        raise SystemExit(2 if min(statuses) == 2 else min(max(statuses), 1))
