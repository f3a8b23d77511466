"""Worker processes of one thread each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager


class WorkerEndedError(ChildProcessError):
    """A worker process has ended before its work was done."""


@contextmanager
def pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes of one thread each.

    At the end of the block they finish the tasks that they have begun. On an error, Ctrl-C or SIGTERM they are stopped
    at once. They also end when this process is killed. The processes are spawned, because a forked one inherits the
    locks of its parent's thread pools.

    Raises:
        WorkerEndedError: when a worker ends before its work is done.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # for the workers: torch and numpy read it when they are loaded
    workers = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_end_with_parent)
    with _sigterm_raises():
        try:
            yield workers
        except BaseException as error:
            for process in list((workers._processes or {}).values()):
                process.terminate()
            if isinstance(error.__context__, KeyboardInterrupt | SystemExit) and type(error) is RuntimeError:
                raise error.__context__ from None  # a signal came while a lock was being released, which then fails
            if isinstance(error, BrokenProcessPool):
                raise WorkerEndedError(
                    "a worker process was killed, often for lack of memory: use fewer processes"
                ) from error
            raise
        finally:
            workers.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Turn SIGTERM into SystemExit for a while, so that processes and semaphores are freed; see `signal`."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end_with_parent() -> None:
    """Let a worker end when the program is killed; otherwise it would wait for work for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program, which stops its workers
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
