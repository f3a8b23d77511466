"""Methods × sources → a tidy table, all methods on the same entries."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espalike.chem.picture import plain_smiles
from espalike.data.schema import Record
from espalike.evaluation.metrics import METRICS, Estimate, centred, energy_errors, estimates, force_errors, sums
from espalike.evaluation.predictors import Predictor

ALL = "all"
"""Name of the row over all sources."""


@dataclass(frozen=True)
class Failure:
    """A method that could not predict an entry, and why."""

    method: str
    entry: str
    reason: str


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a method says about an entry: energies [kcal/mol] `(K,)`, forces [kcal/mol/Å] `(K, A, 3)`."""

    energy: np.ndarray
    forces: np.ndarray


@dataclass(frozen=True, eq=False)
class Scores:
    """Records with every method's predictions.

    Attributes:
        records: the entries asked for, in order.
        predictions: by method, then by record id; failed entries are missing.
        failures: what failed, in order.
    """

    records: tuple[Record, ...]
    predictions: dict[str, dict[str, Prediction]]
    failures: tuple[Failure, ...]

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods that predicted at least one entry."""
        return tuple(name for name, found in self.predictions.items() if found)

    @property
    def common(self) -> tuple[Record, ...]:
        """Entries that every one of `methods` predicted: all rows are about these."""
        return tuple(r for r in self.records if all(r.id in self.predictions[name] for name in self.methods))


@dataclass(frozen=True)
class Row:
    """One line of the table: a method on a source (or on all), with what it was compared on."""

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
    """An entry on which a method is far off; NaN where there is no reference."""

    method: str
    entry: str
    name: str
    smiles: str
    energy_rmse: float
    force_rmse: float


def predict(
    records: Iterable[Record], predictors: Mapping[str, Predictor], tick: Callable[[str], None] = lambda method: None
) -> Scores:
    """Every method on every record; a failure is kept with its reason and the rest goes on.

    Args:
        records: entries to score, kept in memory.
        predictors: methods by name.
        tick: called with the method's name after each record, for a progress bar.
    """
    kept = tuple(records)
    found: dict[str, dict[str, Prediction]] = {name: {} for name in predictors}
    failures = []
    for name, predictor in predictors.items():
        for record in kept:
            try:
                found[name][record.id] = _checked(record, *predictor(record))
            except Exception as error:  # a foreign method may raise anything; it is told, with the molecule
                failures.append(Failure(name, record.id, f"{error}" or type(error).__name__))
            tick(name)
    return Scores(kept, found, tuple(failures))


def _checked(record: Record, energy: np.ndarray, forces: np.ndarray) -> Prediction:
    shape = record.conformers.xyz.shape
    if energy.shape != shape[:1] or forces.shape != shape:
        raise ValueError(f"{record.id}: predicted shapes {energy.shape}, {forces.shape} for coordinates {shape}")
    if not (np.isfinite(energy).all() and np.isfinite(forces).all()):
        raise ValueError(f"{record.id}: predicted energies or forces are not finite")
    return Prediction(np.asarray(energy, np.float64), np.asarray(forces, np.float64))


def entry_sums(record: Record, prediction: Prediction) -> np.ndarray:
    """`metrics.sums` of one prediction."""
    reference = record.conformers
    return sums(energy_errors(prediction.energy, reference.energy), force_errors(prediction.forces, reference.forces))


def molecule_key(record: Record) -> str:
    """What makes two entries the same molecule for the bootstrap: the connectivity key, else the SMILES."""
    return record.key or record.molecule.smiles


def table(scores: Scores, resamples: int = 2000, seed: int = 0) -> list[Row]:
    """Rows for every source and, with several sources, for all of them together; methods in order within each.

    Raises:
        ValueError: when no entry was predicted by every method.
    """
    common = scores.common
    if not scores.methods or not common:
        reasons = "; ".join(sorted({f"{f.method}: {f.reason}" for f in scores.failures})[:3])
        raise ValueError(f"no entry was predicted by every method ({reasons or 'no entries'})")
    sources = sorted({r.conformers.source for r in common})
    rows = []
    for source in [*sources, ALL] if len(sources) > 1 else sources:
        chosen = [r for r in common if source in (r.conformers.source, ALL)]
        keys = [molecule_key(r) for r in chosen]
        for method in scores.methods:
            per_entry = np.stack([entry_sums(r, scores.predictions[method][r.id]) for r in chosen])
            e_rmse, e_mae, f_rmse = estimates(per_entry, keys, resamples, seed)
            failed = sum(f.method == method and source in (_source(scores, f.entry), ALL) for f in scores.failures)
            n = sum(len(r.conformers.xyz) for r in chosen)
            rows.append(Row(method, source, len(set(keys)), n, e_rmse, e_mae, f_rmse, failed))
    return rows


def _source(scores: Scores, entry: str) -> str:
    return next(r.conformers.source for r in scores.records if r.id == entry)


def worst(scores: Scores, method: str, count: int = 5) -> list[Worst]:
    """The entries with a method's largest energy errors, or force errors where there are no energies."""
    found = []
    for record in scores.common:
        n_energy, e2, _, n_force, f2 = entry_sums(record, scores.predictions[method][record.id])
        energy = float(np.sqrt(e2 / n_energy)) if n_energy else np.nan
        force = float(np.sqrt(f2 / n_force)) if n_force else np.nan
        found.append(Worst(method, record.id, record.molecule.name, plain_smiles(record.molecule), energy, force))
    with_energy = [w for w in found if np.isfinite(w.energy_rmse)]
    if with_energy:
        return sorted(with_energy, key=lambda w: -w.energy_rmse)[:count]
    return sorted((w for w in found if np.isfinite(w.force_rmse)), key=lambda w: -w.force_rmse)[:count]


def parity(scores: Scores, method: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Reference, predicted centred energies and reference, predicted force components of the common entries, flat."""
    pairs: tuple[list, list, list, list] = ([], [], [], [])
    for record in scores.common:
        reference, prediction = record.conformers, scores.predictions[method][record.id]
        if len(energy_errors(prediction.energy, reference.energy)):
            pairs[0].append(centred(reference.energy))
            pairs[1].append(centred(prediction.energy))
        if reference.forces is not None:
            finite = np.isfinite(reference.forces)
            pairs[2].append(np.asarray(reference.forces, np.float64)[finite])
            pairs[3].append(prediction.forces[finite])
    e_ref, e_pred, f_ref, f_pred = (np.concatenate(p) if p else np.empty(0) for p in pairs)
    return e_ref, e_pred, f_ref, f_pred


def flat(row: Row) -> dict[str, str | int | float | None]:
    """The row as one line of a tidy table; None where there is nothing to compare."""
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
    """Write a tidy table of at least one line, replacing the file in one step. None becomes an empty cell."""
    temporary = Path(f"{path}.tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    os.replace(temporary, path)
