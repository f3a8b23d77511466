"""A small ingest, which tests run as a program and kill: `python ingest_job.py SOURCE OUT SHARD`."""

import sys
from pathlib import Path

import numpy as np

from espalike.data.filters import Filters
from espalike.data.ingest import Job, run
from espalike.data.readers.hdf5 import Hdf5Reader

MANIFEST = {"licence": "MIT", "origin": "made up", "command": "pytest"}


def reference(molecule):
    """Made-up references; none for ethers."""
    if "O" in molecule.smiles and molecule.n_atoms >= 12:
        raise ValueError(f"{molecule.name}: not covered")
    return np.zeros(molecule.n_atoms), np.ones((molecule.n_atoms, 2))


def job(source, out, shard=0.01, **options):
    """A job of small shards, references included."""
    return Job(
        reader=Hdf5Reader(source),
        out=Path(out),
        filters=options.pop("filters", Filters(rmsd=0.01)),
        assign_split=lambda record: record.split or "train",
        settings=options.pop("settings", {"any": 1}),
        manifest=MANIFEST,
        reference=options.pop("reference", reference),
        shard=shard,
        **options,
    )


if __name__ == "__main__":
    run(job(sys.argv[1], sys.argv[2], float(sys.argv[3])))
