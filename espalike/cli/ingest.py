"""`espalike ingest`: a reader's entries, checked, filtered and split, into a store."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from espalike.data.schema import Record
    from espalike.types import Molecule

    Reference = Callable[[Molecule], tuple[np.ndarray, np.ndarray]]

HELP = """usage: espalike ingest reader=NAME reader.path=FILE out=DIR [key=value ...]

Reads a QM data set, checks and filters every entry, counts what is rejected and why, and writes a store.

  espalike ingest reader=hdf5 reader.path=torsiondrives.h5 out=store/td reference=openff

  reader=hdf5|hutchison   layout of the file; reader.level=, reader.units= where the file does not say them,
                          reader.zero_forces=true for optimised geometries without energies
  split=keep|hash         the data's own splits (hash where it has none), or by connectivity for all
  reference=none|openff   charges (NAGL AM1-BCC) and Lennard-Jones parameters kept as training references
  filters.energy_window=, filters.force_ceiling=, filters.connectivity=, filters.duplicates="""

_SHOWN = 8
"""Messages printed; the others are counted only."""


class Ingest:
    """Takes a reader's entries through filters, reference and split, and counts what falls out.

    Args:
        entries: records and rejections.
        filters: conformer filters.
        assign_split: split of a record.
        reference: charges and Lennard-Jones parameters of a molecule, or None.
        report: called with the message of each rejection.

    Attributes:
        rejected: counts by reason; `conformer: …` counts conformers, `reference: …` molecules kept without
            reference, the others entries.
        faults: how many entries were bad, as against filtered out.
    """

    def __init__(self, entries, filters, assign_split, reference: Reference | None, report: Callable[[str], None]):
        self._entries = entries
        self._filters = filters
        self._assign_split = assign_split
        self._reference = reference
        self._report = report
        self._references: dict[str, tuple[np.ndarray, np.ndarray] | None] = {}
        self.rejected: Counter[str] = Counter()
        self.faults = 0

    def __iter__(self) -> Iterator[Record]:
        from espalike.data.filters import useful
        from espalike.data.schema import RecordError, Rejection, check

        for entry in self._entries:
            if isinstance(entry, Rejection):
                self._reject(entry.reason, entry.message)
                self.faults += 1
                continue
            try:
                record, dropped = self._filters(entry)
            except RecordError as error:
                self._reject(error.reason, str(error))
                continue
            self.rejected.update(dropped)
            record = self._with_reference(replace(record, split=self._assign_split(record)))
            if not useful(record):
                self._reject("nothing to learn from", f"{record.id}: no forces, no reference, and not two energies")
                continue
            check(record)
            yield record

    def _reject(self, reason: str, message: str) -> None:
        self.rejected[reason] += 1
        self._report(message)

    def _with_reference(self, record: Record) -> Record:
        if self._reference is None:
            return record
        smiles = record.molecule.smiles
        if smiles not in self._references:
            try:
                self._references[smiles] = self._reference(record.molecule)
            except ValueError as error:
                self._references[smiles] = None
                self._reject("reference: not covered", str(error))
        found = self._references[smiles]
        return record if found is None else replace(record, ref_charge=found[0], ref_lj=found[1])


def run(cfg) -> int:
    """Run the job; 0 all entries stored or filtered, 1 some were bad and left out.

    Raises:
        ValueError: when nothing can be done: no file, units or licence unknown, no entry left.
    """
    from hydra.utils import instantiate
    from rich.console import Console
    from rich.progress import track

    from espalike.data.split import hash_split
    from espalike.data.store import write_store

    if cfg.split not in ("keep", "hash"):
        raise ValueError(f"split={cfg.split}: expected keep or hash")
    fractions = dict(cfg.fractions)
    hash_split("", cfg.seed, fractions)  # a wrong share is told before the work
    reader = instantiate(cfg.reader, _convert_="all")
    reference, described = _reference(cfg.reference, cfg.force_field)
    console = Console(stderr=True, soft_wrap=True)
    messages: list[str] = []

    def assign_split(record: Record) -> str:
        kept = cfg.split == "keep" and record.split
        return record.split if kept else hash_split(record.key, cfg.seed, fractions)

    def report(message: str) -> None:
        messages.append(message)
        if len(messages) <= _SHOWN:
            console.print(message, style="yellow", markup=False, highlight=False)

    entries = track(reader, description=f"ingest {reader.source}", console=console, disable=not console.is_terminal)
    ingest = Ingest(entries, instantiate(cfg.filters, _convert_="all"), assign_split, reference, report)
    manifest = {
        **reader.manifest,
        "command": shlex.join(["espalike", "ingest", *_overrides()]),
        "split": {"rule": cfg.split, "seed": cfg.seed, "fractions": fractions},
        "reference": described,
    }
    manifest |= {key: cfg[key] for key in ("origin", "licence") if cfg[key]}
    store = write_store(cfg.out, ingest, manifest=manifest, rejected=ingest.rejected)
    if len(messages) > _SHOWN:
        console.print(f"... and {len(messages) - _SHOWN} more of these", style="yellow")
    _show(store, ingest.rejected)
    return 1 if ingest.faults else 0


def _reference(name: str, force_field: str) -> tuple[Reference | None, str]:
    if name == "none":
        return None, "none"
    if name != "openff":
        raise ValueError(f"reference={name}: expected none or openff")
    from espalike.assigners.openff import OpenFFAssigner

    assigner = OpenFFAssigner(force_field)
    return assigner.reference, f"{assigner.force_field} and {assigner.nagl}"


def _overrides() -> list[str]:
    """The command's overrides as typed, for the manifest; none when not run from the command line."""
    from hydra.core.hydra_config import HydraConfig

    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def _show(store, rejected: Counter[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"store {store.path}")
    for column in ("split", "molecules", "entries", "conformers"):
        table.add_column(column, justify="left" if column == "split" else "right")
    for split, counts in store.manifest["splits"].items():
        table.add_row(split, *(str(counts[key]) for key in ("molecules", "entries", "conformers")))
    console = Console()
    console.print(table)
    if rejected:
        out = Table(title="left out")
        out.add_column("reason")
        out.add_column("count", justify="right")
        for reason, count in sorted(rejected.items()):
            out.add_row(reason, str(count))
        console.print(out)
    print(f"wrote {store.path / store.manifest['data']} and manifest.json, hash {store.hash[:12]}")


def main(argv: Sequence[str] | None = None) -> int:
    """The job on its own: `python -m espalike.cli.ingest key=value ...`."""
    from espalike.cli.main import main as program

    return program(["ingest", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
