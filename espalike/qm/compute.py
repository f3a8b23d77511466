"""Where labels are computed: tasks, and the worker processes of this machine that do them.

A `Compute` takes tasks and yields each of them whenever labels of it are finished, which are then in the task's label
directory. Another place to compute, a server for instance, is another class with the same call.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from espalike.chem.molecule import Molecule
from espalike.qm.base import Calculator, CalculatorError, in_batches
from espalike.qm.labelling import Job, LabelDirectory
from espalike.qm.sampling import Geometries
from espalike.workers import WorkerEndedError, pool

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, eq=False)
class Task:
    """One entry to label: its molecule, what makes its geometries, and where its labels are kept. Can be pickled.

    Attributes:
        job: molecule and name of the entry.
        directory: where geometries and labels are kept.
        tools: makes calculator and sampler, once per process.
        entry: name of one of the sampler's entries; see `Geometries.entries`.
        frames: number of geometries to label, at most.
        esp: number of geometries, from the first, that are labelled with electrostatic potentials.
    """

    job: Job
    directory: LabelDirectory
    tools: Callable[[], tuple[Calculator, Geometries]]
    entry: str
    frames: int
    esp: int = 0

    def done(self) -> int:
        """Number of `frames` that are finished."""
        return self.directory.done(self.job, self.frames, self.esp)

    def work(self, stop: int) -> None:
        """Make the geometries if there are none, and label the first `stop`, as far as they are not labelled."""
        self.directory.work(self.job, self.tools()[0], self._sample, min(stop, self.frames), min(stop, self.esp))

    def prepare(self) -> None:
        """Make the geometries if there are none."""
        self.directory.prepare(self.job, self._sample)

    def give_up(self, error: Exception) -> None:
        """Record all missing labels as failed."""
        if not self.directory.prepared(self.job):
            self.directory.fail(self.job, -1, error)
            return
        for k, _ in list(self.directory.unlabelled(self.job, self.frames, self.esp)):
            self.directory.fail(self.job, k, error, k < self.esp)

    def sampler(self) -> Geometries:
        """What makes the geometries of this entry."""
        return self.tools()[1].entries(self.job.molecule)[self.entry]

    def _sample(self, molecule: Molecule, starts: np.ndarray | None) -> np.ndarray:
        return self.sampler()(molecule, starts)


class Compute(Protocol):
    """A place where labels are computed."""

    def __call__(self, tasks: Sequence[Task]) -> Iterator[Task]:
        """Do the tasks; yields one of them whenever some of its labels, or all, are finished or have failed.

        A label that fails is written to the task's directory with its reason, and the others continue.
        """
        ...


@dataclass(frozen=True)
class Local:
    """Worker processes on this machine, one thread each.

    Attributes:
        workers: processes.
        chunk: geometries of an entry labelled in one go; then every other entry has its turn, so that a run that is
            stopped early has labels of all. None: 4, or 64 if the calculator computes batches.
    """

    workers: int = 1
    chunk: int | None = None

    def __call__(self, tasks: Sequence[Task]) -> Iterator[Task]:
        """Do the tasks, `chunk` geometries of each in turn; see `Compute`.

        If a process is killed, its task is tried again; a task with which it is killed again is given up.
        """
        calculator = tasks[0].tools()[0]
        str(calculator.program)  # a program that is not here is reported before geometries are made
        chunk = self.chunk or (64 if in_batches(calculator) else 4)
        most = max(task.frames for task in tasks)
        stops = [*range(chunk, most, chunk), most]
        rounds = deque((stop, [task for task in tasks if stop - chunk < task.frames]) for stop in stops)
        while rounds:
            try:
                with pool(min(self.workers, len(tasks))) as workers:
                    while rounds:
                        yield from _together(workers, *rounds[0])
                        rounds.popleft()
            except WorkerEndedError:
                yield from _alone(*rounds[0], self.workers)


def _together(workers: Executor, stop: int, left: list[Task]) -> Iterator[Task]:
    """Do tasks, which are taken from the list when they are finished."""
    futures = {workers.submit(task.work, stop): task for task in left}
    for future in as_completed(futures):
        future.result()
        left.remove(futures[future])
        yield futures[future]


def _alone(stop: int, left: list[Task], number: int) -> Iterator[Task]:
    """Do the first tasks, those that were at work, each in a process of its own; one that ends it is given up."""
    for task in left[:number]:
        try:
            with pool(1) as worker:
                worker.submit(task.work, stop).result()
        except WorkerEndedError as error:
            task.give_up(CalculatorError("process ended", f"{task.job.name}: {error}"))
        left.remove(task)
        yield task


def compute_labels(tasks: Sequence[Task], compute: Compute, console: Console) -> None:
    """Do the unfinished part of the tasks, under a progress bar where there is a terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    done = {id(task): task.done() for task in tasks}
    left = [task for task in tasks if done[id(task)] < task.frames]
    if not left:
        return
    columns = (
        TextColumn("labels"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[failed]} failed"),
        TextColumn("{task.fields[rate]}"), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    before, begin = sum(done.values()), time.monotonic()
    failed: dict[int, int] = {}  # of the entries worked on
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        total = sum(task.frames for task in tasks)
        bar = progress.add_task("labels", total=total, completed=before, failed=0, rate="")
        for task in compute(left):
            done[id(task)] = task.done()
            failed[id(task)] = len(task.directory.failures(task.job))
            now = sum(done.values())
            rate = f"{3600 * (now - before) / (time.monotonic() - begin):.0f}/h"
            progress.update(bar, completed=now, failed=sum(failed.values()), rate=rate)
