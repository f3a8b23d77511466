"""A walk through an HDF5 file in another process: HDF5's library loops for ever, or crashes, at some damaged files.

This file is run as a program, so it imports nothing that takes long.
"""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

SECONDS = 4.0
"""Longest time of the processor that HDF5 may take for one object of a file. An intact one takes a millisecond."""
_MEMORY = 2**31
"""Memory that the walk may take [bytes]; a text in a damaged file claims any length."""
_LARGE, _DENSE = 64 * 2**20, 500
"""Texts that claim more bytes than `_LARGE`, and this many times as many as are stored, are not read."""
_ROWS = 100_000
"""Rows of texts that are read at once."""


def fault(path: Path) -> str:
    """Why a file cannot be read without risk; empty where it can, or where h5py raises an error."""
    program = [sys.executable, "-P", __file__, str(path), str(SECONDS)]
    result = subprocess.run(program, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if result.returncode == 0:
        return ""
    if result.returncode == -signal.SIGPROF:
        return f"HDF5's library did not come to an end within {SECONDS:g} s at one object of it"
    if result.returncode < 0:
        return f"HDF5's library crashed at it ({signal.strsignal(-result.returncode)})"
    return result.stderr.strip()[-500:] or "a process that looked through it failed"


def walk(path: str, seconds: float) -> None:
    """Open every object of a file; read its attributes, its texts and the index of its pieces.

    The signal SIGPROF ends the process when HDF5 takes longer than `seconds` for one object. Errors are left to the one
    who reads the file.
    """
    import h5py

    def see(name: bytes, link: Any = None) -> None:
        if link is not None and link.type != h5py.h5l.TYPE_HARD:  # it leads to another object, perhaps of another file
            return
        signal.setitimer(signal.ITIMER_PROF, seconds)
        with suppress(Exception):  # whoever reads the file will see it
            _look(h5py.h5o.open(file.id, name), seconds)

    before = _memory()
    signal.setitimer(signal.ITIMER_PROF, seconds)
    with suppress(Exception):
        file = h5py.File(path, "r")
        see(b"/")
        file.id.links.visit(see, info=True)
    if _memory() - before > _MEMORY:
        sys.exit(f"its texts take more than {_MEMORY >> 30} GB of memory")


def _memory() -> int:
    """The most memory that this process had so far [bytes]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _look(item: Any, seconds: float) -> None:
    import h5py
    import numpy as np

    for number in range(h5py.h5a.get_num_attrs(item)):
        attribute = h5py.h5a.open(item, index=number)
        if attribute.shape is not None and attribute.get_storage_size() < _LARGE:
            attribute.read(np.empty(attribute.shape, attribute.dtype))
    if not isinstance(item, h5py.h5d.DatasetID) or item.shape is None:
        return
    layout = item.get_create_plist()
    if layout.get_external_count() or layout.get_layout() == h5py.h5d.VIRTUAL:
        return
    if layout.get_layout() == h5py.h5d.CHUNKED:
        item.get_num_chunks()
    claimed = int(np.prod(item.shape, dtype=object)) * item.dtype.itemsize
    if item.dtype.kind != "O" or (claimed > _LARGE and claimed > _DENSE * item.get_storage_size()):
        return
    texts = h5py.Dataset(item)
    if not item.shape:
        texts[()]
        return
    for start in range(0, len(texts), _ROWS):
        signal.setitimer(signal.ITIMER_PROF, seconds)
        texts[start : start + _ROWS]


if __name__ == "__main__":
    walk(sys.argv[1], float(sys.argv[2]))
