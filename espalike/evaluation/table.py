"""Methods × sources → a tidy table: each method on the entries it covers, or all on the entries they share."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from espalike.chem.picture import plain_smiles
from espalike.data.schema import Record
from espalike.evaluation.metrics import METRICS, Estimate, Panel, centred, energy_errors, estimates, force_errors, sums
from espalike.evaluation.predictors import Predictor
from espalike.files import replacing

ALL = "all"
"""Name of the row over all sources."""


@dataclass(frozen=True)
class Failure:
    """A method that has no result for an entry, and why."""

    method: str
    entry: str
    reason: str


@dataclass(frozen=True, eq=False)
class Result:
    """Energies [kcal/mol] `(K,)` and forces [kcal/mol/Å] `(K, A, 3)` of an entry by one method."""

    energy: np.ndarray
    forces: np.ndarray


@dataclass(frozen=True, eq=False)
class Scores:
    """Records with the results of every method.

    Attributes:
        records: the entries, in order.
        results: by method, then by record id; entries that a method failed on are missing.
        failures: which method failed on which entry, in order.
    """

    records: tuple[Record, ...]
    results: dict[str, dict[str, Result]]
    failures: tuple[Failure, ...]

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods that have a result for at least one entry."""
        return tuple(name for name, results in self.results.items() if results)

    def covered(self, *methods: str) -> tuple[Record, ...]:
        """Entries for which each of these methods has a result."""
        return tuple(r for r in self.records if all(r.id in self.results[name] for name in methods))

    def without(self, ids: Collection[str]) -> Scores:
        """All but these entries."""
        return Scores(
            tuple(record for record in self.records if record.id not in ids),
            {name: {id: r for id, r in results.items() if id not in ids} for name, results in self.results.items()},
            tuple(failure for failure in self.failures if failure.entry not in ids),
        )

    @property
    def complete(self) -> bool:
        """Whether each of `methods` has a result for the same entries."""
        return len({frozenset(self.results[name]) for name in self.methods}) <= 1


@dataclass(frozen=True)
class Row:
    """One line of the table: a method on a source (or on all), with the numbers of molecules and conformers compared.

    Attributes:
        molecules: see `count_molecules`.
        failed: number of entries of the source for which the method has no result.
    """

    method: str
    source: str
    molecules: int
    conformers: int
    energy_rmse: Estimate
    energy_mae: Estimate
    force_rmse: Estimate
    failed: int


@dataclass(frozen=True)
class Worst:
    """An entry on which a method has large errors; NaN if there is no reference."""

    method: str
    entry: str
    name: str
    smiles: str
    energy_rmse: float
    force_rmse: float


def predict(
    records: Iterable[Record], predictors: Mapping[str, Predictor], tick: Callable[[str], None] = lambda method: None
) -> Scores:
    """Results of every method for every record; a failure is kept with its reason, and the rest continues.

    Args:
        records: entries to score, kept in memory.
        predictors: methods by name.
        tick: called with the method's name after each record, for a progress bar.
    """
    kept = tuple(records)
    results: dict[str, dict[str, Result]] = {name: {} for name in predictors}
    failures = []
    for name, predictor in predictors.items():
        for record in kept:
            try:
                results[name][record.id] = _checked(record, *predictor(record))
            except Exception as error:  # a foreign method may raise anything; it is reported with the molecule
                failures.append(Failure(name, record.id, f"{error}" or type(error).__name__))
            tick(name)
    return Scores(kept, results, tuple(failures))


def _checked(record: Record, energy: np.ndarray, forces: np.ndarray) -> Result:
    shape = record.conformers.xyz.shape
    if energy.shape != shape[:1] or forces.shape != shape:
        raise ValueError(f"{record.id}: predicted shapes {energy.shape}, {forces.shape} for coordinates {shape}")
    if not (np.isfinite(energy).all() and np.isfinite(forces).all()):
        raise ValueError(f"{record.id}: predicted energies or forces are not finite")
    return Result(np.asarray(energy, np.float64), np.asarray(forces, np.float64))


def entry_sums(record: Record, result: Result) -> np.ndarray:
    """`metrics.sums` of one result."""
    reference = record.conformers
    return sums(energy_errors(result.energy, reference.energy), force_errors(result.forces, reference.forces))


def molecule_key(record: Record) -> str:
    """What makes two entries the same molecule for the bootstrap: the connectivity key, or else the SMILES."""
    return record.key or record.molecule.smiles


def count_molecules(records: Iterable[Record]) -> int:
    """Number of distinct pairs of connectivity key and net charge, as `espalike info` counts molecules of a store."""
    return len({(molecule_key(r), r.molecule.net_charge) for r in records})


def table(scores: Scores, resamples: int = 2000, seed: int = 0, common: bool = False) -> list[Row]:
    """Rows for every source and, with several sources, for all of them together; methods in order within each.

    Args:
        scores: results of the methods.
        resamples: number of bootstrap samples of molecules.
        seed: of the resampling.
        common: compare all methods on the entries for which each of them has a result (no rows if there are none);
            by default, each method is compared on the entries for which it has a result.

    Raises:
        ValueError: when no method has any result.
    """
    if not scores.methods:
        reasons = "; ".join(sorted({f"{f.method}: {f.reason}" for f in scores.failures})[:3])
        raise ValueError(f"no method has a result for any entry ({reasons or 'no entries'})")
    covered = {name: scores.covered(*scores.methods if common else [name]) for name in scores.methods}
    source_of = {r.id: r.conformers.source for r in scores.records}
    sources = sorted({r.conformers.source for records in covered.values() for r in records})
    rows = []
    for source in [*sources, ALL] if len(sources) > 1 else sources:
        for method, records in covered.items():
            chosen = [r for r in records if source in (r.conformers.source, ALL)]
            if not chosen:
                continue
            keys = [molecule_key(r) for r in chosen]
            per_entry = np.stack([entry_sums(r, scores.results[method][r.id]) for r in chosen])
            e_rmse, e_mae, f_rmse = estimates(per_entry, keys, resamples, seed)
            failed = sum(f.method == method and source in (source_of[f.entry], ALL) for f in scores.failures)
            n = sum(len(r.conformers.xyz) for r in chosen)
            rows.append(Row(method, source, count_molecules(chosen), n, e_rmse, e_mae, f_rmse, failed))
    return rows


def worst(scores: Scores, method: str, count: int = 5) -> list[Worst]:
    """The entries with a method's largest energy errors, or force errors if there are no energies."""
    entries = []
    for record in scores.covered(method):
        n_energy, e2, _, n_force, f2 = entry_sums(record, scores.results[method][record.id])
        energy = float(np.sqrt(e2 / n_energy)) if n_energy else np.nan
        force = float(np.sqrt(f2 / n_force)) if n_force else np.nan
        entries.append(Worst(method, record.id, record.molecule.name, plain_smiles(record.molecule), energy, force))
    with_energy = [w for w in entries if np.isfinite(w.energy_rmse)]
    if with_energy:
        return sorted(with_energy, key=lambda w: -w.energy_rmse)[:count]
    return sorted((w for w in entries if np.isfinite(w.force_rmse)), key=lambda w: -w.force_rmse)[:count]


def parity(scores: Scores, method: str) -> tuple[Panel, Panel]:
    """Reference and predicted values of a method's entries: centred energies, and force components."""
    pairs: tuple[list, list, list, list] = ([], [], [], [])
    for record in scores.covered(method):
        reference, result = record.conformers, scores.results[method][record.id]
        if len(energy_errors(result.energy, reference.energy)):
            pairs[0].append(centred(reference.energy))
            pairs[1].append(centred(result.energy))
        if reference.forces is not None:
            finite = np.isfinite(reference.forces)
            pairs[2].append(np.asarray(reference.forces, np.float64)[finite])
            pairs[3].append(result.forces[finite])
    e_ref, e_pred, f_ref, f_pred = (np.concatenate(p) if p else np.empty(0) for p in pairs)
    return (e_ref, e_pred), (f_ref, f_pred)


def flat(row: Row) -> dict[str, str | int | float | None]:
    """The row as one line of a tidy table; None if there is nothing to compare."""
    line: dict[str, str | int | float | None] = {
        "method": row.method,
        "source": row.source,
        "molecules": row.molecules,
        "conformers": row.conformers,
    }
    for metric in METRICS:
        estimate: Estimate = getattr(row, metric)
        for suffix, value in (("", estimate.value), ("_low", estimate.low), ("_high", estimate.high)):
            line[metric + suffix] = round(value, 4) if np.isfinite(value) else None
    line["failed"] = row.failed
    return line


def write_csv(lines: Sequence[Mapping[str, Any]], path: str | os.PathLike) -> None:
    """Write a tidy table of at least one line; None becomes an empty cell."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
