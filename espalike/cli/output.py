"""How much a command prints: `--quiet`, `--verbose`."""

from __future__ import annotations

import io
import logging
import os
import resource
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout

ANSWERS = {"info", "models", "completion"}
"""Commands whose output is all that they do: nothing quiets them."""


def encodable() -> None:
    """Let stdout write characters that its encoding lacks (Å in ASCII) as stderr does, `\\xc5`, instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextmanager
def amount(name: str, quiet: bool = False, verbose: bool = False) -> Iterator[None]:
    """Print less, or more, while a command runs.

    Args:
        name: the command.
        quiet: print errors only, and no progress.
        verbose: also print log messages of espalike and its libraries, and at the end time and memory.
    """
    with ExitStack() as stack:
        if quiet and name not in ANSWERS:
            stack.enter_context(redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
            stack.enter_context(_no_progress())
        if verbose:
            stack.enter_context(_logging())
            stack.enter_context(_measured(name))
        else:
            stack.enter_context(_plain_warnings())
        yield


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print warnings in one line, without the place in the code that they come from."""
    before, warnings.formatwarning = warnings.formatwarning, lambda message, *_, **__: f"warning: {message}\n"
    try:
        yield
    finally:
        warnings.formatwarning = before


@contextmanager
def _no_progress() -> Iterator[None]:
    """Tell rich that the output is not a terminal, so that it draws no progress."""
    before = os.environ.get("TTY_COMPATIBLE")
    os.environ["TTY_COMPATIBLE"] = "0"
    try:
        yield
    finally:
        del os.environ["TTY_COMPATIBLE"]
        if before is not None:
            os.environ["TTY_COMPATIBLE"] = before


@contextmanager
def _logging() -> Iterator[None]:
    """Messages of the level INFO and above on stderr."""
    root = logging.getLogger()
    level, handler = root.level, logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s", "%H:%M:%S"))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


@contextmanager
def _measured(name: str) -> Iterator[None]:
    """Time and peak of memory on stderr, those of child processes that have ended included."""
    start = time.perf_counter()
    try:
        yield
    finally:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        processor = sum(one.ru_utime + one.ru_stime for one in used)
        unit = 2**30 if sys.platform == "darwin" else 2**20  # macOS counts bytes, Linux kB
        print(
            f"espalike {name}: {time.perf_counter() - start:.1f} s, {processor:.1f} s of the processor,"
            f" at most {max(one.ru_maxrss for one in used) / unit:.2f} GB in one process",
            file=sys.stderr,
        )
