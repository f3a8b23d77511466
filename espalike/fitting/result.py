"""The result of a fit to a few molecules."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from espalike.chem.molecule import Molecule
from espalike.export.ligands import Result
from espalike.fitting.check import Profile, Score


@dataclass(eq=False)
class Fitted:
    """The result of a fit.

    Attributes:
        out: folder of all files.
        start: shipped name or file of the model that the fit began at.
        teacher: level of theory of the labels.
        molecules: the fitted molecules.
        notes: remarks on them, by name.
        failed: why molecules failed, by name.
        refused: formats that cannot express the force field, with the reason.
        fitted: number of labels that were fitted.
        held_out: number of labels that were held out.
        left_out: geometries left out, by reason.
        scores: errors before and after on held-out geometries.
        profiles: torsion profiles at held-out geometries.
        faults: what is wrong with the fitted model itself.
        results: the files of each molecule.
        seconds: processor time of each stage [s].
    """

    out: Path
    start: str
    teacher: str = ""
    molecules: list[Molecule] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    fitted: int = 0
    held_out: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    scores: list[Score] = field(default_factory=list)
    profiles: list[Profile] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def worse(self) -> list[str]:
        """What is worse after the fit; if anything is, the files are those of the start model."""
        return [*self.faults, *(text for score in self.scores for text in score.worse)]

    @property
    def complete(self) -> bool:
        """Whether every molecule was fitted, the fit was kept, and all files are written."""
        written = all(result.status == "ok" for result in self.results)
        return written and not (self.worse or self.failed or self.refused)

    @property
    def model(self) -> Path:
        """The model file."""
        return self.out / "model.espalike"

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the processor time of a block to a stage, that of finished worker processes included."""
        begin = sum(os.times()[:4])
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + sum(os.times()[:4]) - begin
