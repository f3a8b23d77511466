"""The ingest: a reader's entries through filters, duplicates, references, split and audits, into shards of a store.

It works in a folder inside the store's directory, named after the input's content and all settings. A finished shard
has a sidecar with the number of entries it took to fill it; a killed ingest, started again, continues after the last
one. Where shards end depends on the records alone, so the store is the same as that of an unbroken run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from espalike import files
from espalike.chem.complexes import is_complex, monomers
from espalike.chem.molecule import Molecule
from espalike.data.alone import judge_entries
from espalike.data.audit import Audit, Counts, Verdict, counts_of, refuse_failed
from espalike.data.filters import Filters, describe, drop, useful
from espalike.data.schema import FORMAT, Record, RecordError, Rejection, check
from espalike.data.shards import SHARD, ShardWriter, StoreError, check_manifest, commit, map_shard, planned, publish
from espalike.data.similar import Seen
from espalike.data.store import MANIFEST, Store
from espalike.data.work import Part, Rejected, Work, to_lines

PIPELINE = 5
"""Version of the pipeline: increased when unchanged input and settings give a different store."""

Reference = Callable[[Molecule], tuple[np.ndarray, np.ndarray]]
"""Charges [e] `(A,)` and Lennard-Jones sigma [Å], epsilon [kcal/mol] `(A, 2)` of a molecule; a ValueError where it
has none. It may have a method `ahead(molecule)`, called some records earlier, to begin the work in another process."""

NOT_COVERED = "reference: not covered"
_AHEAD, _AHEAD_BYTES = 256, 64 * 2**20
"""Records, and bytes of their coordinates, that are read ahead while a reference is computed in another process."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """Outcome of one entry.

    Attributes:
        record: the stored part of it, or None.
        rejected: the rejected parts.
        fault: whether the entry was bad, not merely filtered out.
        counts: see `audit.counts_of`, of the entry before filters.
    """

    record: Record | None
    rejected: tuple[Rejected, ...] = ()
    fault: bool = False
    counts: Counts | None = None


class Ingest:
    """The outcome of each of a reader's entries, in order.

    Args:
        entries: records that have passed `schema.check`, and rejections.
        filters: conformer filters.
        assign_split: split of a record.
        reference: charges and Lennard-Jones parameters of a molecule, or None.

    Attributes:
        seen: geometries of earlier records and other stores; None = repeats across records are kept.
        ids: identifiers stored so far.
        uncovered: SMILES of the molecules without reference so far; each is reported once.
    """

    def __init__(
        self,
        entries: Iterable[Record | Rejection],
        filters: Filters,
        assign_split: Callable[[Record], str],
        reference: Reference | None = None,
        seen: Seen | None = None,
    ):
        self._entries = entries
        self._filters = filters
        self._assign_split = assign_split
        self._reference = reference
        self._ahead = getattr(reference, "ahead", None)
        self.seen = seen
        self.ids: set[str] = set()
        self.uncovered: set[str] = set()

    def __iter__(self) -> Iterator[Outcome]:
        waiting: deque[Outcome] = deque()
        held = 0
        for entry in self._entries:
            outcome = self._filtered(entry)
            waiting.append(outcome)
            if outcome.record is not None:
                held += outcome.record.conformers.xyz.nbytes
                if self._ahead is not None:
                    for molecule in _molecules(outcome.record):
                        self._ahead(molecule)
            while waiting and (self._ahead is None or len(waiting) > _AHEAD or held > _AHEAD_BYTES):
                first = waiting.popleft()
                held -= 0 if first.record is None else first.record.conformers.xyz.nbytes
                yield self._finished(first)
        yield from map(self._finished, waiting)

    def _filtered(self, entry: Record | Rejection) -> Outcome:
        if isinstance(entry, Rejection):
            return Outcome(None, (Rejected(entry.id, entry.reason, entry.message),), fault=True)
        counts = counts_of(entry)
        try:
            record, dropped = self._filters(entry)
        except RecordError as error:
            return Outcome(None, (Rejected(entry.id, error.reason, str(error)),), counts=counts)
        except Exception as error:  # of one entry: the others go on
            text = f"{entry.id}: cannot be checked ({type(error).__name__}: {error})"
            return Outcome(None, (Rejected(entry.id, "cannot be checked", text),), fault=True)
        return Outcome(record, _dropped(entry, dropped), counts=counts)

    def _finished(self, outcome: Outcome) -> Outcome:
        record = outcome.record
        if record is None:
            return outcome
        rejected = list(outcome.rejected)
        if record.id in self.ids:
            text = f"{record.id}: an earlier entry has this identifier; only that one is stored"
            return Outcome(None, (*rejected, Rejected(record.id, "identifier twice", text)), True, outcome.counts)
        try:
            record, repeats = self._unseen(record)
            rejected += _dropped(outcome.record, repeats)  # type: ignore[arg-type]
            record = self._with_reference(replace(record, split=self._assign_split(record)), rejected)
            if not useful(record):
                text = f"{record.id}: no forces, no reference, and not two energies"
                raise RecordError("nothing to learn from", text)
            if record.ref_charge is not None:
                check(record)
        except RecordError as error:
            return Outcome(None, (*rejected, Rejected(record.id, error.reason, str(error))), counts=outcome.counts)
        self.ids.add(record.id)
        if self.seen is not None:
            self.seen.add(record)
        return Outcome(record, tuple(rejected), counts=outcome.counts)

    def _unseen(self, record: Record) -> tuple[Record, Mapping[str, int]]:
        if self.seen is None:
            return record, {}
        return drop(record, [("conformer: in an earlier record", self.seen.repeated(record))])

    def _with_reference(self, record: Record, rejected: list[Rejected]) -> Record:
        smiles = record.molecule.smiles
        if self._reference is None or smiles in self.uncovered:
            return record
        try:
            parts = [self._reference(molecule) for molecule in _molecules(record)]
        except ValueError as error:
            self.uncovered.add(smiles)
            rejected.append(Rejected(record.id, NOT_COVERED, str(error), smiles=smiles))
            return record
        charge, lj = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        if is_complex(record.molecule):
            place = np.argsort(np.concatenate([atoms for _, atoms in monomers(record.molecule)]))
            charge, lj = charge[place], lj[place]
        return replace(record, ref_charge=charge, ref_lj=lj)


def _molecules(record: Record) -> list[Molecule]:
    """The molecule of a record, or those of a complex, for which references are computed one by one."""
    if is_complex(record.molecule):
        return [monomer for monomer, _ in monomers(record.molecule)]
    return [record.molecule]


def _dropped(record: Record, counts: Mapping[str, int]) -> tuple[Rejected, ...]:
    return tuple(Rejected(record.id, *line) for line in describe(record, counts))


@dataclass(frozen=True, eq=False)
class Job:
    """An ingest: input, settings and output.

    Attributes:
        reader: source of the entries (`espalike.data.readers.base.Reader`).
        out: directory of the store.
        filters: conformer filters.
        assign_split: split of a record.
        settings: all settings that the store depends on, as plain values: with the input's content they name the work.
        manifest: at least licence, origin and command.
        reference: charges and Lennard-Jones parameters of a molecule, or None.
        against: stores whose geometries are not stored again.
        audit: consequence of a failed audit of units: `error`, `warn` or `off`.
        shard: size above which a new file is begun [MB].
        force: ingest from the beginning, even if the store exists and nothing has changed.
        progress: wraps the iterator over entries, to show progress; it also gets the number of entries already done.
    """

    reader: Any
    out: Path
    filters: Filters
    assign_split: Callable[[Record], str]
    settings: Mapping
    manifest: Mapping
    reference: Reference | None = None
    against: Sequence[Store] = ()
    audit: str = "error"
    shard: float = SHARD
    force: bool = False
    progress: Callable[[Iterator, int], Iterable] = lambda entries, done: entries

    def fingerprint(self) -> str:
        """SHA-256 over the input's content and everything else that the store depends on."""
        parts = {
            "version": [FORMAT, PIPELINE],
            "input": self.reader.fingerprint(),
            "settings": self.settings,
            "shard": self.shard,
            "against": sorted(store.hash for store in self.against),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Result:
    """Result of an ingest.

    Attributes:
        store: the store.
        unchanged: whether nothing was done, since the store already holds this input with these settings.
        resumed: number of entries that an earlier, interrupted run had done.
        faults: number of entries that were bad, not merely filtered out.
        verdicts: verdicts of the audits.
    """

    store: Store
    unchanged: bool
    resumed: int
    faults: int
    verdicts: tuple[Verdict, ...]


def run(job: Job, report: Callable[[str], None] = lambda message: None) -> Result:
    """Ingest, or continue an interrupted ingest.

    Args:
        job: what to do.
        report: called with the message of each entry left out.

    Raises:
        StoreError: when the manifest lacks something, no record is left, or another ingest is writing to `out`.
        AuditError: when energies or forces cannot be in their declared units.
    """
    check_manifest(job.out, job.manifest)
    fingerprint = job.fingerprint()
    is_new = not job.out.exists()
    job.out.mkdir(parents=True, exist_ok=True)
    work = job.out / f".ingest-{fingerprint[:12]}"
    with files.only_one(job.out, "ingest", StoreError):
        try:
            return _run(job, fingerprint, work, report)
        except BaseException:
            if not list(work.glob("shard-*.json")):  # no shard to continue from
                shutil.rmtree(work, ignore_errors=True)
                if is_new:
                    with contextlib.suppress(OSError):
                        job.out.rmdir()
            raise


def _run(job: Job, fingerprint: str, folder: Path, report: Callable[[str], None]) -> Result:
    if job.force:
        shutil.rmtree(folder, ignore_errors=True)
    elif planned(folder):
        publish(job.out, folder)
    existing = None if job.force else _stored(job.out, fingerprint)
    if existing is not None:
        shutil.rmtree(folder, ignore_errors=True)
        verdicts = tuple(Verdict(**verdict) for verdict in existing.manifest["audits"])
        return Result(existing, True, 0, existing.manifest["ingest"]["faults"], verdicts)
    work = Work(folder)
    resumed = work.last.entries
    end, tail = _write_parts(job, work, report)
    rejected = [*work.rejected, *tail]
    if not work.parts:
        raise StoreError(f"{job.out}: no record is left to store; rejected: {dict(_counts(rejected))}")
    verdicts = _judge(job, end.audit)
    if job.audit != "off":
        verdicts += _refused(job, tuple(judge_entries(map(map_shard, work.shards()))))
    manifest = {
        **job.manifest,
        "ingest": {"fingerprint": fingerprint, "entries": end.entries, "faults": end.faults},
        "audits": [asdict(verdict) for verdict in verdicts],
    }
    digests = [[bytes.fromhex(text) for text in part.digests] for part in work.parts]
    commit(job.out, folder, digests, manifest, _counts(rejected), to_lines(rejected))
    return Result(Store.open(job.out), False, resumed, end.faults, verdicts)


def _stored(out: Path, fingerprint: str) -> Store | None:
    """The store at `out` if it is complete and was made from this input with these settings; else None."""
    if not (out / MANIFEST).exists():
        return None
    try:
        store = Store.open(out)
    except StoreError:
        return None
    return store if store.manifest.get("ingest", {}).get("fingerprint") == fingerprint else None


def _started(job: Job, work: Work) -> Ingest:
    """The ingest, ready to continue after the last finished shard."""
    seen = None
    if job.filters.duplicates is not None:
        seen = Seen()
        for store in job.against:
            seen.add_table(store.table)
    entries = job.progress(job.reader.entries(work.last.entries), work.last.entries)
    ingest = Ingest(entries, job.filters, job.assign_split, job.reference, seen)
    for path in work.shards():
        table = map_shard(path)
        ingest.ids.update(table.column("id").to_pylist())
        if seen is not None:
            seen.add_table(table)
    ingest.uncovered.update(line.smiles for line in work.rejected if line.reason == NOT_COVERED)
    return ingest


def _write_parts(job: Job, work: Work, report: Callable[[str], None]) -> tuple[Part, list[Rejected]]:
    """Write all shards that remain; the state at the end, and the rejections after the last shard."""
    entries, faults, audit = work.last.entries, work.last.faults, Audit(work.last.audit)
    writer: ShardWriter | None = None
    rejected: list[Rejected] = []

    def part() -> Part:
        digests = [] if writer is None else [digest.hex() for digest in writer.digests]
        return Part(entries, faults, digests, audit.state())

    for outcome in _started(job, work):
        entries += 1
        faults += outcome.fault
        rejected += outcome.rejected
        audit.see(outcome.counts)
        for line in outcome.rejected:
            if not line.reason.startswith("conformer: "):
                report(line.message)
        if outcome.record is None:
            continue
        audit.add(outcome.record)
        writer = writer or work.writer()
        writer.add(outcome.record)
        if writer.size >= job.shard * 2**20:
            work.finish(writer, rejected, part())
            writer, rejected = None, []
            _judge(job, audit.state())
    if writer is not None:
        work.finish(writer, rejected, part())
        writer, rejected = None, []
    return part(), rejected


def _judge(job: Job, sums: Mapping) -> tuple[Verdict, ...]:
    """The audits' verdicts.

    Raises:
        AuditError: when one has failed and the job has `audit="error"`.
    """
    if job.audit == "off":
        return ()
    return _refused(job, tuple(Audit(sums).verdicts()))


def _refused(job: Job, verdicts: tuple[Verdict, ...]) -> tuple[Verdict, ...]:
    """The verdicts.

    Raises:
        AuditError: when one has failed and the job has `audit="error"`.
    """
    if job.audit == "error":
        refuse_failed(verdicts, "To store the data in spite of this, set audit=warn")
    return verdicts


def _counts(rejected: Iterable[Rejected]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for line in rejected:
        counts[line.reason] += line.count
    return counts
