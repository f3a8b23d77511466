"""Writing files whole or not at all, JSON with a checksum, and the folders where computed values are cached."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from threading import get_native_id
from types import ModuleType
from typing import Any

_STREAMS = ("/dev", "/dev/fd", "/proc/self/fd")
"""Folders of devices and of what a process has open."""
SEAL = "crc32"
"""Key of the checksum in sealed JSON."""
_locked = set[int]()
"""Folders that `only_one` has opened."""


@contextmanager
def named(path: str | os.PathLike) -> Iterator[None]:
    """Give an error of the system that names no file, as that of a full disk, the name of the file that is written."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def replacing(path: str | os.PathLike, sync: bool = False) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes the place of `path` at the end, or is removed on an error.

    The content of a pipe or device, such as `/dev/stdout`, is written to it: a file must not take its place.

    Args:
        path: the file to write; its folder must exist.
        sync: whether the content must be on the disk before the file is renamed (survives a power cut).

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "notes.txt"
        >>> with replacing(path) as temporary:
        ...     _ = temporary.write_text("whole")
        >>> path.read_text()
        'whole'
    """
    path = Path(path)
    stream = is_stream(path)
    with ExitStack() as stack:
        # nobody else may put a file into this folder
        folder = Path(stack.enter_context(TemporaryDirectory())) if stream else path.parent
        if not folder.is_dir():
            raise FileNotFoundError(errno.ENOENT, "No such folder to write to", str(path))
        temporary = folder / f".{path.name}.{get_native_id()}.tmp"  # each thread of each process has its own
        try:
            with named(path):
                yield temporary
                if sync:
                    with temporary.open("rb") as file:
                        os.fsync(file.fileno())
                if stream:
                    path.write_bytes(temporary.read_bytes())
                else:
                    os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def only_one(folder: Path, run: str, error: type[ValueError] = ValueError) -> Iterator[None]:
    """Lock a folder against other runs that write to it; the lock ends with the process, even if that is killed.

    Processes that this one forks, such as those that read batches, do not have the lock: they may live longer.

    Args:
        folder: the folder; it exists.
        run: what such a run is called in the message.
        error: what is raised.

    Raises:
        ValueError: when another run holds the lock.
    """
    if sys.platform == "win32":  # a folder cannot be opened there
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    _locked.add(handle)
    try:
        if not lock(handle):
            raise error(f"{folder}: another {run} is writing to it; wait for it, or give another out=")
        yield
    finally:
        if handle in _locked:  # not in a forked process
            _locked.remove(handle)
            os.close(handle)


def _close_locked() -> None:
    """Close them in a forked process, which would keep them locked when this one has been killed."""
    for handle in _locked:
        os.close(handle)
    _locked.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_locked)


def made(folder: Path) -> Path:
    """Make a folder, and check that files can be written to it, before anything is computed for them.

    Raises:
        OSError: when that is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error


def names_in(text: str) -> list[str]:
    """Names separated by commas; the text itself where a file or folder has this name."""
    return [text] if os.path.exists(text) else [part.strip() for part in text.split(",") if part.strip()]


def lock(handle: int) -> bool:
    """Lock an open file or folder until it is closed; False where another process has locked it.

    Where the system or the file system has no locks, nothing is done.
    """
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (OSError, ImportError):
        pass
    return True


def is_stream(path: Path) -> bool:
    """Whether a path is that of a pipe or device; `/dev/stdout` is one also where it leads to a file."""
    return str(path.parent) in _STREAMS or (path.exists() and not path.is_file() and not path.is_dir())


def write(path: str | os.PathLike, content: str | bytes, sync: bool = False) -> None:
    """Write a text (UTF-8) or bytes to a file, whole or not at all; see `replacing`."""
    with replacing(path, sync) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def sealed(content: Mapping[str, Any], of: str = "") -> dict[str, Any]:
    """Content for a JSON file from which a stopped job continues, with a checksum.

    Args:
        content: what JSON can hold, without the key `crc32`.
        of: what the content belongs to; it does not fit anything else.
    """
    return {**content, SEAL: _checksum(content, of)}


def unsealed(text: str | bytes, of: str = "") -> dict[str, Any] | None:
    """The content of sealed JSON, without its checksum; None if it is not what was written for `of`.

    Examples:
        >>> text = json.dumps(sealed({"energy": 1.5}, "water"))
        >>> unsealed(text, "water")
        {'energy': 1.5}
        >>> unsealed(text.replace("1.5", "2.5"), "water"), unsealed(text, "ethanol")
        (None, None)
    """
    try:
        content = json.loads(text)
        given = content.pop(SEAL)
        return content if given == _checksum(content, of) else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _checksum(content: Mapping[str, Any], of: str) -> int:
    return zlib.crc32(f"{of}\n{json.dumps(content)}".encode())


def version_of(path: str | os.PathLike) -> tuple[str, int, int]:
    """What changes when a file does, without reading it: its whole path, time of change and size; 0 if it is none."""
    place = Path(path).absolute()
    try:
        state = place.stat()
    except (OSError, ValueError):
        return str(place), 0, 0
    return str(place), state.st_mtime_ns, state.st_size


def cache_folder(name: str) -> Path:
    """The folder for one kind of cached values, `espalike/NAME` in the user's cache; it may not exist yet."""
    from platformdirs import user_cache_path

    folder = user_cache_path("espalike", appauthor=False)
    if not folder.is_absolute():  # the XDG specification says to ignore a relative XDG_CACHE_HOME
        folder = Path.home() / ".cache" / "espalike"
    return folder / name


def digest_of(*modules: ModuleType) -> str:
    """SHA-256 over the source of modules, for the names of cached values that these modules compute."""
    digest = hashlib.sha256()
    for module in modules:
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()
