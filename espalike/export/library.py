"""Many molecules to force-field files, by one process or several, in constant memory."""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import lru_cache

from espalike import model as models
from espalike.export.charges import charge_source
from espalike.export.ligands import Named, Output, Parametrizer, Result
from espalike.workers import WorkerEndedError, pool

_WAITING = 3
"""Groups of molecules that wait for each process, so that none waits for molecules."""

_LOST = 5
"""Molecules that may end the process that works on them; more of them are a fault of the machine."""

Finished = list[tuple[Result, str]]
"""Results of a group of molecules, each with the traceback of its error, empty if it has none."""


@dataclass(frozen=True)
class Work:
    """Settings of the work on each molecule; plain data that other processes are given.

    Attributes:
        model: name or path of the model.
        charges: source of the partial charges, see `charge_source`.
        n_entries: number of molecules; any number above 1 stands for several.
        output: the files to write.
        strict: whether a molecule fails that is not inside the model's domain.
    """

    model: str
    charges: str
    n_entries: int
    output: Output
    strict: bool = False


@lru_cache(maxsize=1)
def _parametrizer(work: Work) -> Parametrizer:
    """Does the work in a process of the pool, with one copy of the model."""
    return _made(work, models.load(work.model).double())


def _made(work: Work, model: models.ForceFieldModel) -> Parametrizer:
    charges = charge_source(work.charges, model, work.n_entries)
    return Parametrizer(model, work.model, charges, work.output, work.strict)


def run(
    work: Work, model: models.ForceFieldModel, groups: Iterable[Sequence[Named]], jobs: int = 1
) -> Iterator[Finished]:
    """Results of groups of molecules, in order; their files are written.

    Args:
        work: what to do.
        model: the model of that name, in float64.
        groups: molecules with the names of their files, see `espalike.export.ligands.chunks`; few are read ahead.
        jobs: number of processes. If one of them is killed, its molecules are tried again; those that
            end it again fail.

    Raises:
        WorkerEndedError: when that happens to many molecules.
    """
    if jobs == 1:
        parametrizer = _made(work, model)
        yield from (_finished(parametrizer, group) for group in groups)
        return
    groups, waiting, lost = iter(groups), deque[Sequence[Named]](), 0
    while True:
        try:
            with pool(jobs) as workers:
                yield from _together(workers, work, groups, waiting, jobs)
            return
        except WorkerEndedError as error:
            for _ in range(min(jobs, len(waiting))):
                finished, ended = _alone(work, waiting[0])
                lost += ended
                if lost > _LOST:
                    raise WorkerEndedError(
                        f"{error}; so it was with {lost} molecules, the last before {waiting[0][-1][0]}"
                    ) from error
                waiting.popleft()
                yield finished
                if ended:
                    break


def _together(
    workers: Executor, work: Work, groups: Iterator[Sequence[Named]], waiting: deque[Sequence[Named]], jobs: int
) -> Iterator[Finished]:
    """Results of groups in order; those that have no result yet are in `waiting`, whatever happens."""
    tasks: deque[Future[Finished]] = deque(workers.submit(_in_process, work, group) for group in waiting)
    for group in groups:
        waiting.append(group)
        tasks.append(workers.submit(_in_process, work, group))
        if len(tasks) >= _WAITING * jobs:
            finished = tasks.popleft().result()
            waiting.popleft()
            yield finished
    while tasks:
        finished = tasks.popleft().result()
        waiting.popleft()
        yield finished


def _alone(work: Work, group: Sequence[Named]) -> tuple[Finished, int]:
    """Results of a group by a process of its own, and how many of its molecules end that process.

    The group is halved until those molecules are found; they are failures, and the others are finished.
    """
    try:
        with pool(1) as worker:
            return worker.submit(_in_process, work, group).result(), 0
    except WorkerEndedError as error:
        if len(group) == 1:
            name, source, entry = group[0]
            reason = f"the process that worked on it ended: {error}"
            return [(Result(name, source, reason=reason, warnings=list(entry.notes)), "")], 1
        half = len(group) // 2
        (first, lost), (second, more) = _alone(work, group[:half]), _alone(work, group[half:])
        return [*first, *second], lost + more


def _in_process(work: Work, group: Sequence[Named]) -> Finished:
    return _finished(_parametrizer(work), group)


def _finished(parametrizer: Parametrizer, group: Sequence[Named]) -> Finished:
    return [
        (done.result, "" if done.error is None else "".join(traceback.format_exception(done.error)))
        for done in parametrizer(group)
    ]
