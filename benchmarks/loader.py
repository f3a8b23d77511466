"""What a batch costs to load: python benchmarks/loader.py [--conformers 20000] [--rounds 5] [--work DIR] [--json FILE]

Makes batches of the embedded data set, and of a store of drug-like molecules as benchmarks/store.py makes it. Times are
of the processor, in milliseconds per batch, medians over all batches and rounds. `plan` is what the sampler takes on
top; `new molecules` is a batch whose molecules are all new, so that their graphs are made. `masked` is the
share of slots that hold no conformer, for which a step computes in vain, without and with `data.bucketed`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from store_data import LEVEL, ensure_file

from espalike.data.batches import Batches
from espalike.data.dataset import StoreDataset
from espalike.data.readers.hdf5 import Hdf5Reader
from espalike.data.sampler import EPOCHS, EpochSampler
from espalike.data.store import Store, write_store

ROOT = Path(__file__).parents[1]


def synthetic(work: Path, shared: Path, conformers: int) -> Store:
    """A store of drug-like molecules, all for training; kept in `work`."""
    path = work / f"loader-{conformers}"
    if not (path / "manifest.json").is_file():
        records = Hdf5Reader(ensure_file(work, shared, conformers))
        manifest = {"licence": "CC0-1.0", "origin": "benchmarks/store_data.py", "command": "benchmarks/loader.py"}
        write_store(path, records, manifest=manifest)
    return Store.open(path)


def timed(call):
    """Result of a call, and the processor's time for it [ms]."""
    start = time.process_time()
    result = call()
    return result, 1e3 * (time.process_time() - start)


def masked(data: StoreDataset, epoch_of: str, batch: int, conformers: int) -> dict[str, float]:
    """Share of slots without a conformer in an epoch."""
    shares = {}
    for name, bucketed in (("bucketed", True), ("plain", False)):
        plan = list(EpochSampler(data.counts, batch, conformers, epoch_of, sources=data.source, bucketed=bucketed))
        slots = sum(int(picks.counts.max()) * len(picks) for picks in plan)
        shares[name] = 1.0 - sum(int(picks.counts.sum()) for picks in plan) / slots
    return shares


def measure(store: Store, level: str, rounds: int, batch: int, conformers: int, most: int) -> dict:
    """Figures of one store."""
    data = StoreDataset([store], "train" if "train" in store.manifest["splits"] else None, [level])
    batches = Batches(data)
    sampler = EpochSampler(data.counts, batch, conformers, "conformers", sources=data.source, bucketed=True)
    plan, plan_ms = timed(lambda: list(sampler))
    plan_ms /= len(plan)
    plan = plan[:most]
    first = [timed(lambda picks=picks: batches.__getitems__(picks))[1] for picks in plan]  # graphs are made here
    again = [timed(lambda picks=picks: batches.__getitems__(picks))[1] for _ in range(rounds) for picks in plan]
    return {
        "entries": len(data),
        "conformers": int(data.counts.sum()),
        "atoms": float(np.average(data.atoms, weights=data.counts)),
        "conformers_per_batch": statistics.median(int(picks.counts.sum()) for picks in plan),
        "batch_ms": statistics.median(again),
        "plan_ms": plan_ms,
        "new_molecules_ms": statistics.median(first[: max(1, len(first) // 4)]),
        "masked": {epoch_of: masked(data, epoch_of, batch, conformers) for epoch_of in EPOCHS},
    }


def show(figures: dict, console: Console) -> None:
    table = Table(title="A batch, milliseconds of the processor")
    for column in ("store", "atoms", "conformers", "batch", "new molecules", "plan", "masked"):
        table.add_column(column, justify="left" if column == "store" else "right")
    for name, row in figures.items():
        shares = row["masked"]["entries"]
        table.add_row(
            name, f"{row['atoms']:.0f}", f"{row['conformers_per_batch']:.0f}", f"{row['batch_ms']:.2f}",
            f"{row['new_molecules_ms']:.1f}", f"{row['plan_ms']:.2f}",
            f"{shares['plain']:.1%} → {shares['bucketed']:.1%}",
        )  # fmt: skip
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conformers", type=int, default=20_000, help="of the larger store (default %(default)s)")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build/store_benchmark", help="folder (default %(default)s)"
    )
    parser.add_argument("--shared", type=Path, default=ROOT / "../shared/data", help="data sets to make it from")
    parser.add_argument("--batch", type=int, default=32, help="entries in a batch (default %(default)s)")
    parser.add_argument("--per-entry", type=int, default=16, help="conformers of each (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="over all batches (default %(default)s)")
    parser.add_argument("--most", type=int, default=40, help="batches of each store (default %(default)s)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.work.mkdir(parents=True, exist_ok=True)
    sample = Store.open("sample")
    stores = {
        "embedded": (sample, sample.manifest["levels"][0]),
        "drug-like": (synthetic(given.work, given.shared, given.conformers), LEVEL),
    }
    figures = {
        name: measure(store, level, given.rounds, given.batch, given.per_entry, given.most)
        for name, (store, level) in stores.items()
    }
    show(figures, Console(width=120))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
