"""What an evaluation says beside its tables: failures, training molecules, levels of theory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

from espalike.data.schema import Record
from espalike.evaluation import table
from espalike.evaluation.result import Evaluation
from espalike.tables import counted

Say = Callable[[str], None]
"""Takes a message for the user."""

_SHOWN = 5
"""Failures listed per method; `summary.json` has all."""


def report(result: Evaluation, molecules: int, say: Say) -> None:
    """Say what failed, what could not be read, and what a model saw in training.

    Args:
        result: the evaluation.
        molecules: number of connectivities in its data.
        say: takes messages for the user.
    """
    complexes = result.interactions.records if result.interactions else ()
    records = {record.id: record for record in (*result.scores.records, *complexes)}
    every = sorted(result.every_failure, key=lambda failure: failure.method)
    for method, group in groupby(every, key=lambda failure: failure.method):
        failures = list(group)
        lacking = table.count_molecules(records[failure.entry] for failure in failures)
        say(f"{method} failed on {len(failures)} of {len(records)} entries ({counted(lacking, 'molecule')}):")
        for failure in failures[:_SHOWN]:
            say(f"  {failure.entry}: {failure.reason.removeprefix(f'{failure.entry}: ')}")
        if len(failures) > _SHOWN:
            say(f"  ... and {len(failures) - _SHOWN} more, listed in summary.json")
    for entry in result.rejected[:_SHOWN]:
        say(f"{'left out' if entry.reason.startswith('conformer: ') else 'not read'}: {entry.message}")
    if len(result.rejected) > _SHOWN:
        say(f"... and {len(result.rejected) - _SHOWN} more, listed in summary.json")
    for name, count in result.seen.items():
        if count:
            say(f"note: {name} was trained on {count} of these {molecules} connectivities")
    for name, count in result.familiar.items():
        if count:
            say(
                f"note: all molecules of {count} of these {len(complexes)} complexes are in complexes that {name} was "
                "trained on; the errors for new molecules may be larger"
            )


def report_levels(records: Sequence[Record], scored: Mapping[str, tuple[str, Sequence[str]]], say: Say) -> None:
    """Say where labels of several levels of theory are scored together, or a model at another level than the labels'.

    Args:
        records: single molecules; interaction energies do not depend on the level at which a model is scored.
        scored: the level at which each model is scored, and those that it was trained with.
        say: takes messages for the user.
    """
    labels = Counter[str]()
    for record in records:
        labels[record.conformers.level] += len(record.conformers.xyz)
    if len(labels) > 1:
        listed = ", ".join(
            f"{level or 'no name'} ({counted(count, 'conformer')})" for level, count in sorted(labels.items())
        )
        say(f"note: labels of several levels of theory are scored together: {listed}; data.level=LEVEL takes one")
    for name, (level, trained) in scored.items():
        for other in sorted(set(labels) & set(trained) - {level}):
            say(
                f"note: {name} is scored at {level}; the labels have {counted(labels[other], 'conformer')} of {other}, "
                f"which it was trained with, too: `espalike evaluate level={other} data.level={other}` scores it at "
                "that level"
            )


def report_repeated(records: Sequence[Record], say: Say) -> None:
    """Say how many labelled geometries are in an earlier entry, too, as of a molecule that two stores hold."""
    known: dict[tuple, str] = {}
    repeated = []
    for record in records:
        labels = record.conformers
        for energy, first in zip(labels.energy.tolist(), labels.xyz[:, 0].tolist(), strict=True):
            other = known.setdefault((record.key, labels.level, energy, *first), record.id)
            if other != record.id:
                repeated.append((other, record.id))
    if repeated:
        say(
            f"note: {counted(len(repeated), 'conformer')} with the same energy as in another entry, so that they count "
            f"twice: {repeated[0][0]} and {repeated[0][1]}"
        )
