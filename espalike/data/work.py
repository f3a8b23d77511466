"""The work folder of an unfinished ingest: finished shards, each with a sidecar, and the rejections."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from espalike import files
from espalike.data.shards import ShardWriter, file_checksum, shard_path


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
        checksums: SHA-256 of the shard and of its rejections.
    """

    entries: int = 0
    faults: int = 0
    digests: list[str] = field(default_factory=list)
    audit: dict = field(default_factory=dict)
    checksums: list[str] = field(default_factory=list)


class Work:
    """Finished shards in the folder `path`. From the first one on that is not what was written, they are made again.

    Attributes:
        parts: finished parts, those of earlier runs first.
        rejected: lines that belong to them.
    """

    def __init__(self, path: Path):
        self.path = path
        path.mkdir(exist_ok=True)
        self.parts: list[Part] = []
        self.rejected: list[Rejected] = []
        while (part := self._read(len(self.parts))) is not None:
            self.rejected += from_lines(self._lines(len(self.parts)))
            self.parts.append(part)
        for sidecar in sorted(path.glob("shard-*.json"))[len(self.parts) :]:
            sidecar.unlink()

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
        part = replace(part, checksums=self._checksums(number))
        files.write(self._sidecar(number), json.dumps(files.sealed(asdict(part), str(number))), sync=True)
        self.parts.append(part)
        self.rejected += rejected

    def _read(self, number: int) -> Part | None:
        """A finished part; None if there is none, or one of its files is not what was written."""
        if not self._sidecar(number).is_file():
            return None
        content = files.unsealed(self._sidecar(number).read_bytes(), str(number))
        if content is None or not (shard_path(self.path, number).is_file() and self._lines(number).is_file()):
            return None
        part = Part(**content)
        return part if part.checksums == self._checksums(number) else None

    def _checksums(self, number: int) -> list[str]:
        return [file_checksum(path) for path in (shard_path(self.path, number), self._lines(number))]

    def _sidecar(self, number: int) -> Path:
        return shard_path(self.path, number).with_suffix(".json")

    def _lines(self, number: int) -> Path:
        return shard_path(self.path, number).with_suffix(".jsonl")
