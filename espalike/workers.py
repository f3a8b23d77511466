"""Worker processes of one thread each."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor


def pool(processes: int) -> ProcessPoolExecutor:
    """A pool of worker processes of one thread each, which end with this process, also when it is killed.

    The processes are spawned, because a forked one inherits the locks of its parent's thread pools.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # for the workers: torch and numpy read it when they are loaded
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Let a worker end when the program is killed; otherwise it would wait for work for ever."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
