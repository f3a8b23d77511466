"""QM data sets by the path that a user types: a store, or a file that a reader understands."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from espalike.data.audit import Audit, counts_of
from espalike.data.filters import Filters, describe
from espalike.data.readers.base import Reader
from espalike.data.readers.hdf5 import Hdf5Reader, plain_level
from espalike.data.schema import Record, RecordError, Rejection
from espalike.data.store import MANIFEST, Store, embedded

ReaderOf = Callable[..., Reader]
"""Makes the reader of a file: `ReaderOf(path=PATH)`."""


def reader_of(settings: Mapping[str, Any] | None) -> ReaderOf | None:
    """What makes readers of files from the settings of a reader (`configs/reader`); None without settings.

    Raises:
        ValueError: when the settings name a file: files are given with the other inputs.
    """
    if not settings:
        return None
    options = dict(settings)
    if (path := options.pop("path", "???")) != "???":
        raise ValueError(f"reader.path={path}: give the file as data.path=FILE (evaluate) or input=FILE (label)")
    module, _, name = options.pop("_target_").rpartition(".")
    return partial(getattr(import_module(module), name), **options)


def open_data(
    path: str | os.PathLike, reader: ReaderOf | None = None, level: str | None = None
) -> Iterable[Record | Rejection] | None:
    """Entries of a data set; None when the path is not a data set and no reader is given.

    Args:
        path: a store, the name of an embedded one (`sample`), or a file.
        reader: for files; by default files that end in `.h5` or `.hdf5` are read in the layout of `readers.hdf5`.
        level: level of theory of an HDF5 file that does not say it.

    Raises:
        StoreError, ReaderError: when the store or the file cannot be read.
    """
    place = Path(path)
    if os.path.isfile(place / MANIFEST) or embedded(path):  # no error for a SMILES that is too long for a path
        return Store.open(path).records()
    if reader is not None:
        return reader(path=str(path))
    if place.suffix.lower() in {".h5", ".hdf5"}:
        found = Hdf5Reader(place)
        unnamed = level is not None and not plain_level(found.attributes.get("level_of_theory", ""))
        return Hdf5Reader(place, level=level) if unnamed else found
    return Store.open(path).records() if os.path.isdir(path) else None  # the store says what is missing


def checked(entries: Iterable[Record | Rejection], audit: Audit) -> Iterator[Record | Rejection]:
    """Entries of a file with the default filters of an ingest, and a `Rejection` for each reason to drop conformers.

    Args:
        entries: as `open_data` gives them.
        audit: gets the records that pass; its verdicts are complete after the last entry.
    """
    filters = Filters()
    for entry in entries:
        if isinstance(entry, Rejection):
            yield entry
            continue
        audit.see(counts_of(entry))
        try:
            record, dropped = filters(entry)
        except RecordError as error:
            yield Rejection(entry.id, error.reason, str(error))
            continue
        yield from (Rejection(entry.id, reason, message) for reason, message, _ in describe(entry, dropped))
        audit.add(record)
        yield record
