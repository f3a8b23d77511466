"""Many molecules to force-field files, by one process or several, in constant memory."""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from espalike import model as models
from espalike.export.charges import charge_source
from espalike.export.ligands import Named, Output, Parametrizer, Result
from espalike.workers import pool

_WAITING = 3
"""Groups of molecules that wait for each process, so that none waits for molecules."""

Finished = list[tuple[Result, str]]
"""Results of a group of molecules, each with the traceback of its error, empty if it has none."""


@dataclass(frozen=True)
class Work:
    """What is done with each molecule; plain data that other processes are given.

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
        jobs: number of processes.
    """
    if jobs == 1:
        parametrizer = _made(work, model)
        yield from (_finished(parametrizer, group) for group in groups)
        return
    with pool(jobs) as workers:
        waiting: deque = deque()
        for group in groups:
            waiting.append(workers.submit(_in_process, work, group))
            if len(waiting) >= _WAITING * jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _in_process(work: Work, group: Sequence[Named]) -> Finished:
    return _finished(_parametrizer(work), group)


def _finished(parametrizer: Parametrizer, group: Sequence[Named]) -> Finished:
    return [
        (done.result, "" if done.error is None else "".join(traceback.format_exception(done.error)))
        for done in parametrizer(group)
    ]
