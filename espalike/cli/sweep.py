"""What a sweep leaves beside its runs: a table of them, and an exit status, in whatever processes they ran."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

_RESULT = "run.json"


def note(out: str, number: int, overrides: list[str], status: int, value: float | None) -> None:
    """Keep how a run of a sweep went, in its own folder: the sweep may have sent it to another machine."""
    settings = dict(part for part in (override.split("=", 1) for override in overrides) if len(part) == 2)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{_RESULT}.tmp"
    temporary.write_text(json.dumps({"run": number, "status": status, "value": value, **settings}))
    os.replace(temporary, folder / _RESULT)


class Table(Callback):
    """Hydra's callback in the process that was started: writes `sweep.csv` and leaves with the exit status."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Forget the runs of an earlier sweep in the same folder."""
        for old in Path(config.hydra.sweep.dir).glob(f"*/{_RESULT}"):
            old.unlink()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the table.

        Raises:
            SystemExit: hydra hands nothing back of a sweep. 0 when all runs are done, 2 when none is, else 1.
        """
        out = Path(config.hydra.sweep.dir)
        rows = [json.loads(path.read_text()) for path in out.glob(f"*/{_RESULT}")]
        rows.sort(key=lambda row: row["run"])
        temporary = out / "sweep.csv.tmp"
        with open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
            writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, out / "sweep.csv")
        print(f"wrote {out / 'sweep.csv'}")
        statuses = [row["status"] for row in rows] or [2]
        raise SystemExit(2 if min(statuses) == 2 else min(max(statuses), 1))
