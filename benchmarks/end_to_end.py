"""Minutes of training until the accuracy of an earlier version is reached, for that version and the present one.

python benchmarks/end_to_end.py --before REVISION [--after SETTINGS] [--seeds 0,1,2] [--json FILE] [SETTINGS]

The earlier version is taken from git and installed into a temporary folder, with the dependencies of this environment.
For each seed, both train on the same data with the same SETTINGS (hydra overrides; default `experiment=quickstart`),
one after the other on one thread. The accuracy to reach is the earlier version's lowest validation loss. Time is
counted from the start of the command, without the installation.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
TRAIN = "import sys; from espalike.cli.main import main; sys.exit(main(['train', *sys.argv[1:]]))"


def installed(revision: str, home: Path) -> Path:
    """A folder with the package at a revision."""
    source, site = home / "source", home / "site"
    source.mkdir()
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", revision], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(source)], input=archive, check=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target"]
    subprocess.run([*pip, str(site), str(source)], check=True)
    return site


def losses(folder: Path) -> list[tuple[float, float]]:
    """Time (seconds since 1970) and validation loss of each epoch."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.wall_time, event.value) for event in events.Scalars("val/loss")]


def trained(site: Path, out: Path, settings: list[str]) -> dict[str, Any]:
    """Train once; minutes and loss after each epoch, and minutes of the whole run."""
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    begin = time.time()
    with Path(f"{out}.log").open("w") as log:
        command = [sys.executable, "-P", "-c", TRAIN, *settings, f"out={out}"]
        subprocess.run(command, check=True, env=environment, cwd=ROOT, stdout=log, stderr=log)
    curve = losses(out)
    return {
        "minutes": [(when - begin) / 60 for when, _ in curve],
        "loss": [value for _, value in curve],
        "total": (time.time() - begin) / 60,
    }


def minutes_to(run: dict[str, Any], loss: float) -> float | None:
    """Minutes until the validation loss is at or below a value; None when it never is."""
    return next((m for m, value in zip(run["minutes"], run["loss"], strict=True) if value <= loss), None)


def main() -> None:
    """Train, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, metavar="REVISION")
    parser.add_argument("--after", default="", metavar="SETTINGS", help="settings for the present version only")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--json", type=Path)
    parser.add_argument("settings", nargs="*", default=["experiment=quickstart"])
    arguments = parser.parse_args()
    console = Console()
    table = Table(title=f"minutes of training to the lowest validation loss of {arguments.before}, one thread")
    for column in ("seed", "loss", f"{arguments.before}", "present version", "ratio", "whole runs: before, present"):
        table.add_column(column, justify="right")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="end_to_end_") as folder:
        home = Path(folder)
        site = installed(arguments.before, home)
        for seed in map(int, arguments.seeds.split(",")):
            settings = [*arguments.settings, f"seed={seed}"]
            before = trained(site, home / f"before_{seed}", settings)
            after = trained(ROOT, home / f"after_{seed}", [*settings, *arguments.after.split()])
            loss = min(before["loss"])
            old, new = minutes_to(before, loss), minutes_to(after, loss)
            assert old is not None
            rows.append({"seed": seed, "target": loss, "before": before, "after": after, "minutes": [old, new]})
            shown = ("never", "") if new is None else (f"{new:.2f}", f"{old / new:.2f}")
            table.add_row(
                str(seed), f"{loss:.2f}", f"{old:.2f}", *shown, f"{before['total']:.2f}, {after['total']:.2f}"
            )
    console.print(table)
    reached = [row["minutes"][0] / row["minutes"][1] for row in rows if row["minutes"][1]]
    console.print(
        f"reached in {len(reached)} of {len(rows)} runs; median ratio {statistics.median(reached or [0]):.2f}"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
