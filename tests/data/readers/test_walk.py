"""HDF5 files of a few changed bytes at which HDF5's library loops for ever or crashes: refused by name."""

import struct

import h5py
import pytest

from espalike.cli.main import main
from espalike.data.readers import walk
from espalike.data.readers.base import ReaderError
from espalike.data.readers.hdf5 import Hdf5Reader
from tests.data.readers.test_hdf5 import entry, write


def endless(data: bytearray) -> None:
    """The last object of the heap of texts, which is its free space, gets the size 0."""
    at = data.index(b"GCOL") + 16
    while (number := struct.unpack_from("<H", data, at)[0]) != 0:
        assert number < 1000
        at += 16 + (struct.unpack_from("<Q", data, at + 8)[0] + 7) // 8 * 8
    struct.pack_into("<Q", data, at + 8, 0)


def crashing(data: bytearray) -> None:
    """The first text is of a variable length, but neither a string nor a sequence."""
    at = data.index(b"\x19\x01\x01\x00\x10")
    data[at + 1] = 3


CHANGES = {"endless": (endless, "did not come to an end"), "crashing": (crashing, "crashed")}


@pytest.fixture(params=CHANGES)
def damaged(request, tmp_path, monkeypatch):
    """A damaged file, and what is said of it."""
    monkeypatch.setattr(walk, "SECONDS", 0.5)
    change, message = CHANGES[request.param]
    path = write(tmp_path / "set.h5", {"m": entry()})
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return path, message


def test_a_reader_names_the_file(damaged):
    path, message = damaged
    with pytest.raises(ReaderError, match=rf"set\.h5: HDF5's library {message}.*it is damaged; get the file again"):
        Hdf5Reader(path)


@pytest.mark.parametrize(
    "command",
    [
        ["ingest", "reader=hdf5", "reader.path={}", "origin=x", "licence=y"],
        ["evaluate", "data.path={}", "baselines=[mmff94]"],
        ["molecules", "input={}"],
    ],
    ids=lambda command: command[0],
)
def test_commands_end(damaged, command, tmp_path, capsys):
    path, message = damaged
    assert main([*(word.format(path) for word in command), f"out={tmp_path / 'out.smi'}"]) == 2
    assert f"{path}: HDF5's library {message}" in capsys.readouterr().err


def test_texts_of_all_kinds_are_looked_through(tmp_path):
    path = write(tmp_path / "set.h5", {"m": entry()})
    with h5py.File(path, "a") as file:
        file["scalar"], file["many"], file["none"] = "text", ["a", "b"] * 100, h5py.Empty("f8")
        file["elsewhere"] = h5py.ExternalLink("missing.h5", "/x")
        file.create_dataset("pieces", data=["a"] * 10, chunks=(2,), compression="gzip")
    assert walk.fault(path) == ""
