"""The result of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from espalike.data.schema import Rejection
from espalike.evaluation import show
from espalike.evaluation.interactions import Interactions
from espalike.evaluation.interactions import Row as InteractionRow
from espalike.evaluation.table import Failure, Row, Scores, Worst
from espalike.evaluation.terms import Contribution


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        rows: errors of every method on the entries that it covers, by source.
        common: errors of all methods on the entries that all of them cover; the same rows if they cover the same.
        inside: the same for molecules inside the chemical domain of every model; no rows if all molecules are.
        outside: ids of the entries whose molecules are not.
        scores: records and the energies and forces of every method.
        models: names of the methods that are models; the others are baselines.
        skipped: baselines that are not installed, and what to install.
        rejected: entries of the data that could not be read, and conformers of files that an ingest would drop.
        seen: number of connectivities that a model saw in training, by model.
        familiar: number of complexes of which all molecules are in complexes of a model's training data, by model.
        contributions: of the terms of every force field, if they were requested.
        worst: entries with the largest errors of every method.
        out: folder with the tables and the picture.
        interactions: interaction energies of complexes and those of every method; None without complexes.
        interaction_rows: their errors by set, group and distance.
    """

    rows: tuple[Row, ...]
    common: tuple[Row, ...]
    inside: tuple[Row, ...]
    outside: tuple[str, ...]
    scores: Scores
    models: tuple[str, ...]
    skipped: Mapping[str, str]
    rejected: tuple[Rejection, ...]
    seen: Mapping[str, int]
    familiar: Mapping[str, int]
    contributions: tuple[Contribution, ...]
    worst: tuple[Worst, ...]
    out: Path
    interactions: Interactions | None = None
    interaction_rows: tuple[InteractionRow, ...] = ()

    @cached_property
    def failures(self) -> tuple[Failure, ...]:
        """Entries that a model failed on; see `scores.failures` for those of the baselines."""
        return tuple(failure for failure in self.every_failure if failure.method in self.models)

    @property
    def every_failure(self) -> tuple[Failure, ...]:
        """Entries that a method failed on, complexes included."""
        between = self.interactions.failures if self.interactions else ()
        return (*self.scores.failures, *between)

    def __repr__(self) -> str:
        """Tables of errors: every method on its entries and, if these differ, on those of all methods."""
        tables = [f"Evaluation in {self.out}: {show.UNITS}", *([show.errors(self.rows)] if self.rows else [])]
        if self.common is not self.rows:
            tables.append(show.errors(self.common, ", entries of all methods"))
        if self.inside:
            tables.append(show.errors(self.inside, ", inside the domain of every model"))
        if self.interactions:
            tables.append(show.interactions(self.interaction_rows, len(self.interactions.records)))
        return "\n\n".join(tables)

    def _repr_html_(self) -> str:
        """The rows as a table, for notebooks."""
        more = "" if self.common is self.rows else f"<p>Entries of all methods:</p>{show.html(self.common)}"
        inside = f"<p>Inside the domain of every model:</p>{show.html(self.inside)}" if self.inside else ""
        return show.html(self.rows) + more + inside
