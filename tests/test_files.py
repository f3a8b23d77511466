"""Files are written whole or not at all; caches lie in the user's cache folder."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from espalike import energy, files, geometry
from espalike.data.inputs import open_data
from espalike.modelfile import find


def test_a_file_is_replaced(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    files.write(path, "Å")
    assert path.read_text(encoding="utf-8") == "Å"
    files.write(path, b"bytes", sync=True)
    assert path.read_bytes() == b"bytes"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(TypeError), files.replacing(path) as temporary:
        temporary.write_bytes("half")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_of_a_full_disk_names_the_file(tmp_path):
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.txt'"), files.replacing(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, "No space left on device")  # as `write` gives it


def test_a_missing_folder_is_an_error_that_names_the_file(tmp_path):
    with pytest.raises(OSError, match=r"a\.txt"):
        files.write(tmp_path / "no" / "a.txt", "text")


def test_a_pipe_stays_a_pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    files.write(path, "text")
    assert os.read(reader, 100) == b"text"
    assert path.is_fifo()
    os.close(reader)
    assert files.is_stream(Path("/dev/stdout"))
    assert not files.is_stream(tmp_path / "pipes" / "new")


def test_the_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert files.cache_folder("references") == tmp_path / "espalike" / "references"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says the XDG specification
    assert files.cache_folder("references") == Path.home() / ".cache" / "espalike" / "references"


def test_digests_differ_by_module_and_order():
    assert files.digest_of(energy) != files.digest_of(geometry)
    assert files.digest_of(energy, geometry) == files.digest_of(energy, geometry) != files.digest_of(geometry, energy)


def test_threads_that_write_one_file_do_not_share_a_temporary_one(tmp_path):
    path = tmp_path / "notes.txt"
    with ThreadPoolExecutor(1) as other:
        with files.replacing(path) as temporary:
            temporary.write_text("one")
            other.submit(files.write, path, "other").result()
            assert path.read_text() == "other"
        assert path.read_text() == "one"
    assert [each.name for each in tmp_path.iterdir()] == ["notes.txt"]


def test_versions_of_a_file(tmp_path, monkeypatch):
    path = tmp_path / "notes.txt"
    path.write_text("one")
    (tmp_path / "below").mkdir()
    before = files.version_of(path)
    monkeypatch.chdir(tmp_path)
    assert files.version_of("notes.txt") == before
    monkeypatch.chdir(tmp_path / "below")
    assert files.version_of("notes.txt") != before
    path.write_text("other")
    assert files.version_of(path) != before


def test_a_name_with_a_comma_is_one_file_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a, b").mkdir()
    assert files.names_in("a, b") == ["a, b"]
    assert files.names_in("a,c ,") == ["a", "c"]
    assert files.names_in("espalike-1," * 30) == ["espalike-1"] * 30  # longer than the name of a file can be


def test_a_smiles_that_is_too_long_for_a_path_is_not_taken_for_a_file():
    """Labelling a large molecule ended with "File name too long"."""
    smiles = "C" * 300
    assert open_data(smiles) is None
    with pytest.raises(FileNotFoundError, match="no model"):
        find(smiles)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_lock_ends_with_its_process_and_not_with_those_that_it_has_forked(tmp_path):
    """Processes that read batches live some seconds longer than a training that was killed."""
    (forked, tell), (end, until) = os.pipe(), os.pipe()
    with files.only_one(tmp_path, "training"):
        if (child := os.fork()) == 0:
            os.close(until)
            os.write(tell, b"1")
            os.read(end, 1)  # until the parent closes `until`
            os._exit(0)
        os.read(forked, 1)
        with pytest.raises(ValueError, match="another training is writing"), files.only_one(tmp_path, "training"):
            pass
    with files.only_one(tmp_path, "training"):
        assert os.waitpid(child, os.WNOHANG) == (0, 0)  # it lives
    os.close(until)
    os.waitpid(child, 0)
    for handle in (forked, tell, end):
        os.close(handle)
