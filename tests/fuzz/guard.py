"""What each example is run under: a limit of time, a folder of its own, and how many examples there are."""

import hashlib
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ALL = int(os.environ.get("ESPALIKE_FUZZ", "10000"))
"""Examples of `pytest -m fuzz`, over all doors together."""
SECONDS = 10.0
"""Of the processor, that an example may take."""


class TooLongError(BaseException):
    """An example takes too long; not an `Exception`, which programs catch."""


def amounts(few: int, share: float):
    """Parametrizes a test with its number of examples: a few by default, its share of `ALL` with `-m fuzz`."""
    many = max(few, round(ALL * share))
    return pytest.mark.parametrize("examples", [few, pytest.param(many, id="fuzz", marks=pytest.mark.fuzz)])


def explore(check: Callable[[st.DataObject], None], examples: int, few: int = 200) -> None:
    """Call a check with so many draws; few of them are always the same."""
    chosen = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=examples <= few,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    chosen(given(data=st.data())(lambda data: check(data)))()


@contextmanager
def limited(seconds: float = SECONDS) -> Iterator[None]:
    """Raises `TooLongError` after seconds of the processor, or six times as many of the clock."""

    def stop(number, frame):
        raise TooLongError(f"not done after {seconds} seconds")

    before = [signal.signal(number, stop) for number in (signal.SIGPROF, signal.SIGALRM)]
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 6.0 * seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in zip((signal.SIGPROF, signal.SIGALRM), before, strict=True):
            signal.signal(number, handler)


@contextmanager
def bounded(gigabytes: float = 4.0) -> Iterator[None]:
    """Memory is refused beyond so much more than the process has now."""
    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (has + int(gigabytes * 2**30), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def files(folder: Path) -> dict[str, str]:
    """Every file below a folder, and the hash of its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
