"""What `espalike label` reads: molecules of files, stores and SMILES, each once, with their splits."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from espalike.tables import first_few, read_csv

if TYPE_CHECKING:
    from espalike.data.inputs import ReaderOf
    from espalike.qm.labelling import Job

_GEOMETRIES = (".xyz", ".extxyz", ".db", ".traj", ".json", ".parquet", ".npz")
"""Suffixes of files that hold geometries without bonds, or need a reader."""


def read_jobs(cfg, rejected: Counter[str], messages: list[str]) -> list[Job]:
    """The molecules of all inputs, each once and with its split; broken ones are counted and reported."""
    from omegaconf import ListConfig, OmegaConf

    from espalike.chem import connectivity_key, safe_names
    from espalike.data.inputs import reader_of
    from espalike.data.schema import check_split
    from espalike.data.split import split_of
    from espalike.qm.labelling import Job

    fractions = dict(cfg.fractions)
    split_of("", fractions=fractions)  # a wrong share is an error before the work
    listed = isinstance(cfg.input, ListConfig)
    inputs = list(cfg.input) if listed else [str(cfg.input)]
    chosen = [cfg.split] if isinstance(cfg.split, str) else list(cfg.split or [])
    for split in chosen:
        check_split(split, "split:")
    splits = _splits(cfg.splits)
    by_smiles: dict[str, Job] = {}
    settings = OmegaConf.to_container(cfg.reader) if cfg.get("reader") else None
    reader = reader_of(cast("dict[str, Any] | None", settings))
    for source in inputs:
        for entry in _entries(source, reader):
            if isinstance(entry, tuple):
                rejected[entry[0]] += 1
                messages.append(entry[1] + (_bracket_atom(source) if listed else ""))
            elif (not chosen or entry.split in chosen) and entry.molecule.smiles not in by_smiles:
                split = splits.get(entry.name, entry.split)
                by_smiles[entry.molecule.smiles] = Job(entry.name, entry.molecule, entry.starts, split)
    jobs = list(by_smiles.values())[: cfg.limit]
    unknown = set(splits) - {job.name for job in jobs}
    if splits and unknown and cfg.limit is None:
        messages.append(f"{cfg.splits}: not in the input: {first_few(sorted(unknown))}")
    names = safe_names([job.name for job in jobs])
    return [
        replace(job, name=name, split=job.split or split_of(connectivity_key(job.molecule), fractions=fractions))
        for name, job in zip(names, jobs, strict=True)
    ]


def _bracket_atom(source: str) -> str:
    """Advice for `input=[NH4+]`, which is a list of one input that is not a SMILES."""
    from espalike.chem import ChemistryError, from_smiles

    try:
        from_smiles(f"[{source}]")
    except ChemistryError:
        return ""
    return f"""; brackets make a list; for the SMILES, write 'input="[{source}]"'"""


def _splits(path: str | None) -> dict[str, str]:
    from espalike.data.schema import check_split

    if not path:
        return {}
    splits: dict[str, str] = {}
    for row in read_csv(path, ["name", "split"]):
        name, split = row["name"], row["split"]
        check_split(split, f"{path}: {name}: split")
        if splits.setdefault(name, split) != split:
            raise ValueError(f"{path}: {name} is in two splits, {splits[name]!r} and {split!r}")
    return splits


def _entries(source: str, reader: ReaderOf | None) -> Iterator[Job | tuple[str, str]]:
    """Molecules of one input, or (reason, message) of a broken one."""
    import numpy as np

    from espalike.chem import read_molecules
    from espalike.data.inputs import open_data
    from espalike.data.readers.kinds import which_reader
    from espalike.data.schema import Rejection
    from espalike.qm.labelling import Job

    if (data := open_data(source, reader)) is not None:
        for record in data:
            if isinstance(record, Rejection):
                yield record.reason, record.message
            else:
                xyz = record.conformers.xyz
                yield from ((fault.reason, str(fault)) for fault in record.left_out)
                yield Job(record.id, record.molecule, xyz[np.isfinite(xyz).all(axis=(1, 2))], record.split)
        return
    if os.path.isfile(source) and Path(source).suffix.lower() in _GEOMETRIES:
        raise ValueError(f"{source}: no file of molecules; {which_reader(Path(source))}")
    for entry in read_molecules(source):
        if entry.molecule is None:
            yield "unreadable", str(entry.error)
        else:
            yield Job(entry.name, entry.molecule, None if entry.xyz is None else entry.xyz[None])
