"""Geometries of a few molecules and their labels by a teacher: those to fit, and those that are held out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from espalike import settings
from espalike.chem.molecule import Molecule
from espalike.data.schema import Record
from espalike.qm.compute import Local, Task, compute_labels
from espalike.qm.labelling import Job, LabelDirectory, Labelled, conformers_of

Parts = Mapping[str, Mapping[str, Any]]
"""Settings of samplers by name, without the force field on which they sample."""


def _samplers(seed: int, spacing: int, shapes: int, thermal: int, scans: int = 1) -> Parts:
    """Scans of each rotatable bond, conformers, thermal frames; other seeds begin at other conformers.

    Each of the `scans` of a bond begins at a conformer of its own, with seeds from `seed` on.
    """
    module = "espalike.qm.sampling"
    scan = {"_target_": f"{module}.Scan", "spacing": spacing, "steps": 60, "rounds": 1}
    return {
        **{f"scan-{n}" if n else "scan": {**scan, "seed": seed + n} for n in range(scans)},
        "shapes": {
            "_target_": f"{module}.Shapes",
            "frames": shapes,
            "pool": 3 * shapes // 2,
            "minimise": 100,
            "seed": seed,
        },
        "thermal": {
            "_target_": f"{module}.Thermal",
            "frames": thermal,
            "temperature": 300.0,
            "highest": 600.0,
            "starts": 8,
            "interval": 30.0,
            "minimise": 60,
            "seed": seed,
        },
    }


FIT = (_samplers(0, 30, 40, 73), _samplers(1, 30, 40, 73, scans=4))
"""Geometries to fit: those of the start model, and those of a first fit."""
HELD_OUT = _samplers(100, 24, 24, 33)
"""Geometries that are held out: from other conformers, scans also at other angles."""
OWN_SCAN = {"scan": HELD_OUT["scan"]}
"""Scans that are held out, for the fitted model to relax by itself."""
_WINDOW = 40.0
"""Energy above the median of an entry beyond which a geometry is left out [kcal/mol]: a collapsed or broken one."""
_DISAGREEMENT = 10.0
"""Disagreement of a teacher's members on any atom beyond which a geometry is left out [kcal/mol/Å]."""


@dataclass(frozen=True, eq=False)
class Teacher:
    """Labels geometries of molecules, each once: labels of an earlier run are taken from their folder.

    Attributes:
        calculator: settings of the calculator.
        root: folder of all labels.
        workers: number of processes; 1 labels in this one.
        left_out: counts of geometries that have no label or are left out, by reason.
    """

    calculator: Mapping[str, Any]
    root: Path
    workers: int = 1
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def level(self) -> str:
        """Level of theory."""
        (calculator,) = settings.made(json.dumps({"calculator": self.calculator}))
        str(calculator.program)  # a program that is not installed is reported here
        return calculator.level

    def refused(self, jobs: Sequence[Job], model: str, folder: str) -> dict[str, str]:
        """Why molecules cannot be sampled or labelled, by name: the first conformer of each is tried.

        Args:
            jobs: the molecules.
            model: shipped name or file of the force field on which geometries are sampled.
            folder: of the labels to fit, to which these belong.
        """
        tasks = [replace(task, frames=1) for task in self._tasks({"shapes": FIT[0]["shapes"]}, jobs, model, folder)]
        self._label(tasks)
        return {
            task.job.name: task.directory.failures(task.job)[0].message
            for task in tasks
            if not task.directory.labels(task.job)
        }

    def records(self, parts: Parts, jobs: Sequence[Job], model: str, folder: str, split: str) -> list[Record]:
        """Labelled geometries as entries: each scan is one, all else makes one per molecule and kind of geometry.

        Args:
            parts: the samplers.
            jobs: the molecules.
            model: shipped name or file of the force field on which geometries are sampled.
            folder: of these labels, in `root`.
            split: what the entries' split is called.

        Raises:
            ValueError: when the folder holds labels that were made with other settings.
        """
        tasks = self._tasks(parts, jobs, model, folder)
        self._label(tasks)
        groups: dict[str, tuple[Molecule, str, tuple[int, ...] | None, list[Labelled]]] = {}
        for task in tasks:
            sampler = task.sampler()
            self.left_out.update(failure.reason for failure in task.directory.failures(task.job))
            for number, labelled in task.directory.labels(task.job).items():
                kind = sampler.kind(number)
                which = task.directory.root.name.removeprefix("scan")  # scans from other conformers are apart
                name = task.job.name + which if kind == "scan" else f"{task.job.name}-{kind}"
                groups.setdefault(name, (task.job.molecule, kind, sampler.driven, []))[3].append(labelled)
        return [
            Record(
                name,
                molecule,
                conformers_of(kept, self.level, "bespoke"),
                split,
                dihedral=None if driven is None else np.array(driven),
                kind=kind,
            )
            for name, (molecule, kind, driven, labels) in groups.items()
            if (kept := self._usable(labels))
        ]

    def _tasks(self, parts: Parts, jobs: Sequence[Job], model: str, folder: str) -> list[Task]:
        """A task per molecule and sampler, or per scan; a sampler that finds nothing in a molecule makes none of it."""
        force_field = {"_target_": "espalike.qm.models.ModelCalculator", "model": model}
        tasks = []
        for name, sampler in parts.items():
            made = {"calculator": dict(self.calculator), "sampler": {**sampler, "calculator": force_field}}
            directory = LabelDirectory(self.root / folder / name)
            directory.claim(made)
            tools = partial(settings.made, json.dumps(made))
            for job in jobs:
                try:
                    entries = tools()[1].entries(job.molecule)
                except ValueError:  # no rotatable bond
                    continue
                for suffix, entry in entries.items():
                    entry_job = replace(job, name=f"{job.name}-{suffix}") if suffix else job
                    tasks.append(Task(entry_job, directory, tools, suffix, entry.frames))
        return tasks

    def _label(self, tasks: Sequence[Task]) -> None:
        compute_labels(tasks, Local(self.workers) if self.workers > 1 else _here, Console(stderr=True))

    def _usable(self, labels: Sequence[Labelled]) -> list[Labelled]:
        """Without geometries of very high energy, and without those on which the teacher's members disagree."""
        highest = np.median([label.energy for _, label in labels]) + _WINDOW
        kept = []
        for xyz, label in labels:
            if label.energy > highest:
                self.left_out["energy too high"] += 1
            elif label.disagreement is not None and label.disagreement.max() > _DISAGREEMENT:
                self.left_out["the teacher's members disagree"] += 1
            else:
                kept.append((xyz, label))
        return kept


def _here(tasks: Sequence[Task]) -> Iterator[Task]:
    """Do tasks in this process, one after the other; see `espalike.qm.compute.Compute`."""
    for task in tasks:
        task.work(task.frames)
        yield task
