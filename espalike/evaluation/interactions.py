"""Errors of interaction energies of complexes, by set, by kind of interaction and by distance.

The interaction energy of a complex of rigid molecules is E(AB) − E(A) − E(B), all in the geometry of the complex. That
of a force field is the sum of its pair terms over pairs of atoms of different molecules, each parametrized on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from espalike.chem.complexes import monomers
from espalike.chem.conformers import Conformers
from espalike.data.schema import Record
from espalike.energy import energy
from espalike.evaluation.metrics import Estimate, estimates, sums
from espalike.evaluation.predictors import ForceField, Predictor
from espalike.evaluation.table import ALL, Failure
from espalike.system import Bound, MMSystem
from espalike.terms.base import PairTerm
from espalike.tuples import Tuples

DISTANCES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "at least 0.95": lambda scaling: ~(scaling < 0.95 - 1e-3),
    "at least 0.9": lambda scaling: ~(scaling < 0.9 - 1e-3),
    "below 0.9": lambda scaling: scaling < 0.9 - 1e-3,
    ALL: lambda scaling: np.ones(len(scaling), dtype=bool),
}
"""Points by distance relative to equilibrium; a point whose distance is not known counts as one near equilibrium."""


@dataclass(frozen=True)
class Row:
    """Errors of a method for the complexes of a set or a kind of interaction, in a range of distances.

    Attributes:
        method: name of the method.
        what: `set`, `group` or `all`.
        name: name of the set or the group.
        distance: key of `DISTANCES`.
        complexes: number of complexes.
        points: number of geometries.
        mae: mean absolute error [kcal/mol], with its 95 % interval over pairs of molecules.
        rmse: root mean square error [kcal/mol], likewise.
        bias: mean error [kcal/mol]; positive: bound too weakly.
    """

    method: str
    what: str
    name: str
    distance: str
    complexes: int
    points: int
    mae: Estimate
    rmse: Estimate
    bias: float


@dataclass(frozen=True, eq=False)
class Interactions:
    """Complexes with the interaction energies of every method.

    Attributes:
        records: the complexes, in order.
        results: interaction energies [kcal/mol] `(K,)` by method, then by record id; those that failed are missing.
        failures: which method failed on which complex, in order.
    """

    records: tuple[Record, ...]
    results: Mapping[str, Mapping[str, np.ndarray]]
    failures: tuple[Failure, ...]

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods that have a result for at least one complex."""
        return tuple(name for name, results in self.results.items() if results)

    @property
    def common(self) -> tuple[Record, ...]:
        """Complexes for which each of `methods` has a result: those that errors are about."""
        return tuple(r for r in self.records if all(r.id in self.results[name] for name in self.methods))


def between_monomers(force_field: ForceField, record: Record) -> MMSystem:
    """Pair terms over the pairs of atoms of different molecules, each molecule parametrized on its own, in float64."""
    parts = monomers(record.molecule)
    with torch.no_grad():
        system = force_field.assign([molecule for molecule, _ in parts]).to(dtype=torch.float64)
    place = torch.from_numpy(np.concatenate([atoms for _, atoms in parts]))  # atom of the complex, per atom of `system`
    order, of = place.argsort(), system.mol[place.argsort()]
    first, second = torch.triu_indices(len(of), len(of), offset=1)
    idx = torch.stack([first, second], dim=1)[of[first] != of[second]]
    no, yes = (torch.full((len(idx),), value) for value in (False, True))
    pairs = Tuples(idx, torch.zeros(len(idx), dtype=torch.int64), is14=no, across=yes)
    terms = tuple(Bound(b.term, pairs, b.values[order]) for b in system.terms if isinstance(b.term, PairTerm))
    return MMSystem(terms, system.numbers[order], torch.zeros_like(system.mol), (record.molecule,))


def interaction_energies(predictor: Predictor, record: Record) -> np.ndarray:
    """Interaction energies of a method at the geometries of a complex [kcal/mol], shape `(K,)`."""
    xyz = np.array(record.conformers.xyz, np.float64)
    if isinstance(predictor, ForceField):
        return energy(between_monomers(predictor, record), torch.from_numpy(xyz), forces=False).energy[:, 0].numpy()
    total = np.array(predictor(record)[0], np.float64)
    for molecule, atoms in monomers(record.molecule):
        conformers = Conformers(xyz[:, atoms], np.full(len(xyz), np.nan), None, record.conformers.level, record.id)
        total -= predictor(replace(record, molecule=molecule, conformers=conformers))[0]
    return total


def predict(
    records: Iterable[Record], predictors: Mapping[str, Predictor], tick: Callable[[str], None] = lambda method: None
) -> Interactions:
    """Interaction energies of every method for every complex; a failure is kept with its reason.

    Args:
        records: complexes with interaction energies, kept in memory.
        predictors: methods by name.
        tick: called with the method's name after each complex, for a progress bar.
    """
    kept = tuple(records)
    results: dict[str, dict[str, np.ndarray]] = {name: {} for name in predictors}
    failures = []
    for name, predictor in predictors.items():
        for record in kept:
            try:
                values = interaction_energies(predictor, record)
                if not np.isfinite(values).all():
                    raise ValueError(f"{record.id}: interaction energies are not finite")
                results[name][record.id] = values
            except Exception as error:  # any method may fail in its own way; the message names the complex
                failures.append(Failure(name, record.id, f"{error}" or type(error).__name__))
            tick(name)
    return Interactions(kept, results, tuple(failures))


def rows(scores: Interactions, resamples: int = 2000, seed: int = 0) -> list[Row]:
    """Errors by set, by group and of all, at each range of distances, on the complexes that all methods cover.

    There are no rows if no complex is covered by all methods.

    Raises:
        ValueError: when no method covers any complex.
    """
    common = scores.common
    if not scores.methods:
        reasons = "; ".join(sorted({f"{f.method}: {f.reason}" for f in scores.failures})[:3])
        raise ValueError(f"no method has a result for any complex ({reasons or 'no complexes'})")
    parts = [("set", name, [r for r in common if r.conformers.source == name]) for name in _names(common, "set")]
    parts += [("group", name, [r for r in common if r.group == name]) for name in _names(common, "group")]
    parts.append((ALL, ALL, list(common)))
    return [
        row
        for what, name, chosen in parts
        for distance in DISTANCES
        for method in scores.methods
        if (row := _row(scores, method, (what, name, distance), chosen, resamples, seed)) is not None
    ]


def _names(records: Sequence[Record], what: str) -> list[str]:
    return sorted({r.conformers.source if what == "set" else r.group for r in records} - {""})


def _row(
    scores: Interactions, method: str, key: tuple[str, str, str], chosen: Sequence[Record], resamples: int, seed: int
) -> Row | None:
    """The errors of a method on some complexes; None where there is no point at this distance."""
    per_complex, keys, errors = [], [], []
    for record in chosen:
        reference, scaling = record.conformers.interaction, record.conformers.scaling
        assert reference is not None  # `schema.check`
        known = np.full(len(reference), np.nan) if scaling is None else scaling
        error = (scores.results[method][record.id] - reference)[DISTANCES[key[2]](known)]
        if len(error):
            per_complex.append(sums(error, np.empty(0)))
            keys.append(record.key)
            errors.append(error)
    if not errors:
        return None
    rmse, mae, _ = estimates(np.stack(per_complex), keys, resamples, seed)
    every = np.concatenate(errors)
    return Row(method, *key, len(keys), len(every), mae, rmse, float(every.mean()))


def flat(row: Row) -> dict[str, str | int | float | None]:
    """A row as one line of a table with a plain value per column."""
    line: dict[str, str | int | float | None] = {
        name: getattr(row, name) for name in ("method", "what", "name", "distance", "complexes", "points")
    }
    for metric in ("mae", "rmse"):
        estimate: Estimate = getattr(row, metric)
        for suffix, value in (("", estimate.value), ("_low", estimate.low), ("_high", estimate.high)):
            line[metric + suffix] = round(value, 4) if np.isfinite(value) else None
    return line | {"bias": round(row.bias, 4)}
