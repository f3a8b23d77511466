"""The work folder of an unfinished ingest: finished shards, each with a sidecar, and the rejections."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from espalike import files
from espalike.data.shards import ShardWriter, shard_path


@dataclass(frozen=True)
class Rejected:
    """A line of the file of rejections: an entry left out, or conformers of one, or a molecule without reference.

    Attributes:
        id: the entry.
        reason: short, for counting; `conformer: …` counts conformers, other reasons count one per line.
        message: the fault, its place, and what to do.
        count: number of entries or conformers.
        smiles: SMILES of the molecule, if the reason concerns the molecule and not the entry.
    """

    id: str
    reason: str
    message: str
    count: int = 1
    smiles: str = ""


def to_lines(rejected: Iterable[Rejected]) -> bytes:
    """The lines as JSON, one per line; fields with their default value are left out."""
    lines = (
        {
            key: value
            for key, value in asdict(line).items()
            if value not in ("", 1) or key in ("id", "reason", "message")
        }
        for line in rejected
    )
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def from_lines(path: Path) -> list[Rejected]:
    """The lines of a file."""
    with path.open(encoding="utf-8") as file:
        return [Rejected(**json.loads(line)) for line in file]


@dataclass(frozen=True)
class Part:
    """A finished shard, and the state of the ingest after it.

    Attributes:
        entries: number of the reader's entries so far.
        faults: number of bad ones among them.
        digests: digests of the shard's rows, hexadecimal.
        audit: sums of the audits.
    """

    entries: int = 0
    faults: int = 0
    digests: list[str] = field(default_factory=list)
    audit: dict = field(default_factory=dict)


class Work:
    """Finished shards in the folder `path`.

    Attributes:
        parts: finished parts, those of earlier runs first.
        rejected: lines that belong to them.
    """

    def __init__(self, path: Path):
        self.path = path
        path.mkdir(exist_ok=True)
        self.parts: list[Part] = []
        self.rejected: list[Rejected] = []
        while (sidecar := self._sidecar(len(self.parts))).exists():
            self.rejected += from_lines(self._lines(len(self.parts)))
            self.parts.append(Part(**json.loads(sidecar.read_text(encoding="utf-8"))))

    @property
    def last(self) -> Part:
        """The last finished part."""
        return self.parts[-1] if self.parts else Part()

    def shards(self) -> list[Path]:
        """The finished shards."""
        return [shard_path(self.path, i) for i in range(len(self.parts))]

    def writer(self) -> ShardWriter:
        """A writer of the next shard, which does not count before `finish`."""
        return ShardWriter(self.path / "shard.tmp")

    def finish(self, writer: ShardWriter, rejected: list[Rejected], part: Part) -> None:
        """Finish a shard; the sidecar comes last, so a shard without one does not count."""
        number = len(self.parts)
        writer.close()
        os.replace(writer.path, shard_path(self.path, number))
        files.write(self._lines(number), to_lines(rejected), sync=True)
        files.write(self._sidecar(number), json.dumps(asdict(part)), sync=True)
        self.parts.append(part)
        self.rejected += rejected

    def _sidecar(self, number: int) -> Path:
        return shard_path(self.path, number).with_suffix(".json")

    def _lines(self, number: int) -> Path:
        return shard_path(self.path, number).with_suffix(".jsonl")
