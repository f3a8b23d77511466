"""Record files: whatever a killed writer leaves, earlier records are read and the next one follows them."""

import io
from pathlib import Path

import numpy as np
import pytest

from espalike.qm.records import RecordFolder


def content(folder):
    return [(header["n"], place.read()) for header, place in RecordFolder(folder).new()]


def fill(folder, count):
    records = RecordFolder(folder)
    for n in range(count):
        records.append({"n": n}, {"x": np.arange(n + 1.0), "shape": np.ones((n, 2, 3), dtype=np.float32)})
    records.close()
    return folder / "records-0.bin"


def test_records_come_back(tmp_path):
    fill(tmp_path, 3)
    for n, arrays in content(tmp_path):
        np.testing.assert_array_equal(arrays["x"], np.arange(n + 1.0))
        assert arrays["shape"].shape == (n, 2, 3)
        assert arrays["shape"].dtype == np.float32


def test_a_record_cut_at_any_byte_is_ignored_and_written_over(tmp_path):
    path = fill(tmp_path, 2)
    two = path.read_bytes()
    fill(tmp_path / "one", 1)
    first = len((tmp_path / "one" / "records-0.bin").read_bytes())
    for cut in range(first, len(two)):
        path.write_bytes(two[:cut])
        assert [n for n, _ in content(tmp_path)] == [0]
        again = RecordFolder(tmp_path)
        again.append({"n": 7}, {"x": np.zeros(1)})
        again.close()
        assert [n for n, _ in content(tmp_path)] == [0, 7]
    assert list(tmp_path.glob("*.bin")) == [path]


def test_processes_write_to_files_of_their_own(tmp_path):
    first, second, reader = RecordFolder(tmp_path), RecordFolder(tmp_path), RecordFolder(tmp_path)
    for n in range(3):
        first.append({"n": n})
        second.append({"n": n + 10})
        assert {header["n"] for header, _ in reader.new()} == {n, n + 10}
    assert len(list(tmp_path.glob("*.bin"))) == 2
    first.close()
    third = RecordFolder(tmp_path)
    third.append({"n": 20})
    assert len(list(tmp_path.glob("*.bin"))) == 2
    second.close()
    third.close()
    assert sorted(n for n, _ in content(tmp_path)) == [0, 1, 2, 10, 11, 12, 20]


def test_damage_is_reported_with_file_and_place(tmp_path):
    path = fill(tmp_path, 2)
    body = bytearray(path.read_bytes())
    body[-3] ^= 1
    path.write_bytes(body)
    with pytest.raises(ValueError, match=r"records-0\.bin: damaged at byte \d+.*truncate"):
        content(tmp_path)


def test_any_changed_byte_is_damage_and_never_the_end_of_a_killed_process(tmp_path):
    """Also in a length: else all later records would be taken for an unfinished one, and written over."""
    path = fill(tmp_path, 2)
    whole = path.read_bytes()
    _, first = next(RecordFolder(tmp_path).new())
    for byte in range(first.offset + first.length):
        damaged = bytearray(whole)
        damaged[byte] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"records-0\.bin: damaged at byte"):
            content(tmp_path)
        if byte < first.offset:
            with pytest.raises(ValueError, match="damaged at byte 0"):
                RecordFolder(tmp_path).append({"n": 3})
            assert path.read_bytes() == damaged


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_names_the_folder_of_the_records(tmp_path):
    records = RecordFolder(tmp_path / "labels")
    records._file = io.FileIO("/dev/full", "w")
    with pytest.raises(OSError, match=r"No space left on device: '.*labels'"):
        records.append({"entry": "a"})
    records.append({"entry": "b"})
    records.close()
    assert [header["entry"] for header, _ in records.new()] == ["b"]
