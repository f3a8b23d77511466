"""Where a command prints, and how much: `--quiet`, `--verbose`."""

from __future__ import annotations

import io
import logging
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import Any

ANSWERS = {"info", "models", "completion"}
"""Commands whose output is all that they do: nothing quiets them."""


class _Stream(io.FileIO):
    """A file that discards what cannot be written, so that the command goes on.

    Attributes:
        error: why output is missing (a full disk); None where its reader has ended, as `head` does.
    """

    error: OSError | None = None

    def write(self, data: Any, /) -> Any:
        """Write bytes; returns how many."""
        try:
            return super().write(data)
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                self.error = error
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return memoryview(data).nbytes


def unbroken() -> Callable[[], OSError | None]:
    """Let commands go on when their output cannot be written.

    Returns:
        A function that writes the rest of stdout, and returns why something is missing in it, or None.
    """
    files = {}
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            files[name] = _Stream(stream.fileno(), "w", closefd=False)
            kept = {key: getattr(stream, key) for key in ("encoding", "errors", "line_buffering", "write_through")}
            setattr(sys, name, io.TextIOWrapper(io.BufferedWriter(files[name]), **kept))

    def rest() -> OSError | None:
        if "stdout" not in files:
            return None
        sys.stdout.flush()
        return files["stdout"].error

    return rest


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
