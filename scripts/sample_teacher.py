"""A small sample of the stores of scripts/label_teacher.sh, of which data/sample-aimnet2 was made.

python scripts/sample_teacher.py runs/teacher data/sample-aimnet2 [--molecules 150] [--atoms 26]

Molecules of at most `--atoms` atoms that occur in all three stores, evenly spaced in the order of the list, which
begins with the commonest environments; of each, up to 6 shapes, one torsion scan and 6 thermal frames. Only molecules
from collections whose licences ask nothing (`INPUTS`, a column of cover.csv) are taken.
"""

import argparse
import csv
import shlex
import sys
from collections import defaultdict
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from espalike.data.store import Store, write_store

INPUTS = {"groups", "nci", "nibr", "wehi", "zinc"}
FRAMES = {"relaxed": 6, "scan": 24, "thermal": 6}
"""Geometries of an entry, at most, by kind."""


def shortened(record, count):
    """The record with its first `count` geometries; of relaxed ones evenly from compact to extended."""
    conformers = record.conformers
    number = len(conformers.energy)
    chosen = np.arange(min(count, number))
    if record.kind == "relaxed":
        chosen = np.unique(np.linspace(0, number - 1, chosen.size).round().astype(int))
    arrays = {}
    for field in fields(conformers):
        value = getattr(conformers, field.name)
        if isinstance(value, np.ndarray) and value.shape[:1] == (number,):
            arrays[field.name] = value[chosen]
    return replace(record, conformers=replace(conformers, **arrays))


def main():
    """Choose and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", type=Path, help="folder of the stores shapes, scans and thermal")
    parser.add_argument("out", type=Path)
    parser.add_argument("--molecules", type=int, default=150)
    parser.add_argument("--atoms", type=int, default=26)
    args = parser.parse_args()
    with open(args.stores / "cover.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    keys = {row["key"] for row in rows if row["input"] in INPUTS} - {r["key"] for r in rows if r["input"] not in INPUTS}
    entries = defaultdict(dict)  # by molecule and kind
    stores = [Store.open(args.stores / name) for name in ("shapes", "scans", "thermal")]
    for store in stores:
        for record in store.records():
            if record.key in keys and record.molecule.n_atoms <= args.atoms and len(record.conformers.energy) > 3:
                entries[record.molecule.smiles].setdefault(record.kind, record)
    whole = [found for found in entries.values() if FRAMES.keys() <= found.keys()]
    places = np.unique(np.linspace(0, len(whole) - 1, args.molecules).round().astype(int))
    records = [shortened(whole[place][kind], FRAMES[kind]) for place in places for kind in FRAMES]
    manifest = {key: stores[0].manifest[key] for key in ("licence", "program") if key in stores[0].manifest}
    manifest |= {"origin": "labelled by this project with AIMNet2", "command": shlex.join(["python", *sys.argv])}
    store = write_store(args.out, records, manifest=manifest)
    size = sum(path.stat().st_size for path in args.out.glob("entries-*")) / 1e6
    print(f"{store!r}, {size:.2f} MB")


if __name__ == "__main__":
    main()
