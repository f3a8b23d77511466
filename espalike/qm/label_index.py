"""What the record files of a label directory hold: geometries, labels and failures of each entry."""

from __future__ import annotations

import atexit
import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from espalike.qm.records import Place, RecordFolder


@dataclass(frozen=True)
class Failure:
    """Why there is no label, or no label with a potential, or no geometry.

    Attributes:
        reason: a word or two, to count by.
        message: names the molecule.
        esp: whether only the potential failed, or was requested as well.
        time: when it was written [s since 1970].
    """

    reason: str
    message: str
    esp: bool
    time: float


@dataclass(eq=False)
class Entry:
    """Geometries, labels and failures of one entry.

    Attributes:
        smiles: of the geometries.
        count: number of geometries.
        geometries: where they are, or None; of several processes that made them at the same time, the first ones.
        others: records of labels that came before the geometries, or that are of others.
        labels: record and row of the label of each labelled geometry, by the geometry's number.
        with_esp: the labelled geometries that have potentials.
        failures: by the number of the geometry; −1: the geometries could not be made.
    """

    smiles: str = ""
    count: int = 0
    geometries: Place | None = None
    others: list[tuple[dict[str, Any], Place]] = field(default_factory=list)
    labels: dict[int, tuple[Place, int]] = field(default_factory=dict)
    with_esp: set[int] = field(default_factory=set)
    failures: dict[int, Failure] = field(default_factory=dict)

    def add(self, header: dict[str, Any], place: Place) -> None:
        """Take in a record."""
        if "labels" in header:
            self._add_labels(header, place)
        elif "failed" in header:
            self.failures[header["failed"]] = Failure(*(header[name] for name in ("reason", "message", "esp", "time")))
        elif self.geometries is None:
            self.smiles, self.count, self.geometries = header["smiles"], header["count"], place
            before, self.others = self.others, []
            for each in before:
                self._add_labels(*each)

    def _add_labels(self, header: dict[str, Any], place: Place) -> None:
        """Take in labels of the geometries; earlier versions did not write the checksum of these."""
        if header.get("of") not in (None, self.geometries and self.geometries.checksum):
            self.others.append((header, place))
            return
        for row, k in enumerate(header["labels"]):
            if k not in self.labels or header["esp"]:
                self.labels[k] = (place, row)
        if header["esp"]:
            self.with_esp.update(header["labels"])

    def missing(self) -> list[Failure]:
        """The failures that no later attempt replaced by a label."""
        return [failure for k, failure in sorted(self.failures.items()) if not self._made(k, failure.esp)]

    def _made(self, k: int, esp: bool) -> bool:
        if k < 0:
            return self.geometries is not None
        return k in self.with_esp or (k in self.labels and not esp)


class LabelIndex:
    """The entries of a label directory, as far as they were read.

    Args:
        root: the directory.
    """

    def __init__(self, root: Path):
        self.records = RecordFolder(root)
        self._entries: dict[str, Entry] = {}

    def refresh(self) -> None:
        """Take in what any process has written since the last time."""
        for header, place in self.records.new():
            self._entries.setdefault(header["entry"], Entry()).add(header, place)

    def entry(self, name: str) -> Entry:
        """What is known of an entry, perhaps nothing."""
        return self._entries.get(name, Entry())


_INDICES: dict[Path, LabelIndex] = {}


@atexit.register
def _close() -> None:
    for index in _INDICES.values():
        index.records.close()


def index_of(root: Path, again: bool = False) -> LabelIndex:
    """The index of a directory, one per process; read from the start when `again`."""
    key = root.absolute()
    if again and key in _INDICES:
        _INDICES.pop(key).records.close()
    return _INDICES.setdefault(key, LabelIndex(key))


def adopt(root: Path, index: LabelIndex) -> None:
    """Write records of the labels that lie one per file in folders, as espalike kept them before; these files stay."""
    index.refresh()
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        known = index.entry(folder.name)
        # of an entry the geometries are written last: where they are, all else is
        if known.geometries is None and ((folder / "frames.npz").exists() or -1 not in known.failures):
            for header, arrays in _in_files(folder):
                index.records.append({"entry": folder.name, **header}, arrays)
    index.records.close()
    index.refresh()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Give errors about the content of a file its name."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, NotImplementedError, OSError, EOFError) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it: what is lost is computed again") from error
    except (RecursionError, BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it: what is lost is computed again") from error


@contextmanager
def _arrays(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """The arrays of a file."""
    with _named(path), path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        yield {name: arrays[name] for name in arrays}


def _in_files(folder: Path) -> Iterator[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    for path in sorted(folder.glob("*.json")):
        with _named(path):
            failure = {"esp": False, "time": path.stat().st_mtime, **json.loads(path.read_text())}
            if not {"reason", "message"} <= failure.keys():
                raise ValueError("expected reason and message")
        yield {"failed": int(path.stem) if path.stem.isdigit() else -1, **failure}, {}
    for path in sorted(folder.glob("[0-9]*.npz")):
        with _arrays(path) as arrays:
            yield (
                {"labels": [int(path.stem)], "esp": "esp_values" in arrays},
                {name: array[None] for name, array in arrays.items()},
            )
    if (folder / "frames.npz").exists():
        with _arrays(folder / "frames.npz") as arrays:
            yield {"smiles": str(arrays["smiles"]), "count": len(arrays["xyz"])}, {"xyz": arrays["xyz"]}
