"""Data sets: a changed file is refused by name, or each entry is rejected by name or says what the file says."""

import importlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from espalike.data.filters import Filters, describe
from espalike.data.readers import walk
from espalike.data.readers.base import ReaderError
from espalike.data.schema import Record, RecordError, Rejection
from tests.fuzz.changes import changed_array, changed_bytes, changed_text
from tests.fuzz.guard import amounts, bounded, explore, limited

SUITES = {
    "extxyz": "TestExtxyz", "sdf": "TestSdf", "forcebalance": "TestForceBalance", "qcarchive": "TestQCArchive",
    "hdf5": "TestHdf5", "spice": "TestSpice", "ani": "TestAni1x", "layout": "TestArrays", "rmd17": "TestRmd17",
    "grappa": "TestGrappa", "table": "TestParquetOfConformers",
}  # fmt: skip
"""Test modules of readers, and the suite there whose fixture is changed."""
ARRAYS = ("hdf5", "spice", "ani", "layout", "rmd17", "grappa")
TEXTS = (".xyz", ".sdf", ".json", ".txt", ".pdb")


def suite_of(name: str):
    """The suite of a reader; importing it by name keeps pytest from running it here."""
    return getattr(importlib.import_module(f"tests.data.readers.test_{name}"), SUITES[name])()


@pytest.fixture(scope="module")
def fixtures(tmp_path_factory):
    """Each suite's fixture, written once."""
    written: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in written:
            suite = suite_of(name)
            written[name] = tmp_path_factory.mktemp(name) / suite.filename
            suite.write(written[name], suite.samples())
        return written[name]

    return of


def copied(path: Path, folder: Path) -> Path:
    """A fresh copy of a file or folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return Path((shutil.copytree if path.is_dir() else shutil.copy)(path, folder / path.name))


def read(suite, path: Path, options=None) -> tuple[list[Record], list[str]]:
    """The records that pass the filters, and the messages of all else, which name the file or the entry."""
    with limited(), bounded():
        try:
            reader = suite.reader(path, **{**suite.options, **(options or {})})
            entries = list(reader)
        except ReaderError as error:
            assert path.name in str(error), error
            assert "Error:" not in str(error), error
            return [], [str(error)]
        assert len(reader) == len(entries)
        records, messages = [], []
        for entry in entries:
            if isinstance(entry, Rejection):
                names = [entry.id, path.name, *(s.name for s in suite.samples())]
                assert any(name in entry.message for name in names), entry
                messages.append(entry.message)
                continue
            assert isinstance(entry, Record)
            try:
                kept, dropped = Filters()(entry)
            except RecordError as error:
                assert entry.id in str(error), error
                messages.append(str(error))
                continue
            left_out = sum(count for _, _, count in describe(entry, dropped))
            assert len(kept.conformers.xyz) + left_out == len(entry.conformers.xyz) + len(entry.left_out)
            records.append(kept)
        return records, messages


@pytest.mark.filterwarnings("ignore")
@amounts(few=8, share=0.03)
@pytest.mark.parametrize("name", SUITES)
def test_changed_bytes_and_words(fixtures, tmp_path, name, examples):
    suite, path = suite_of(name), fixtures(name)

    def check(data: st.DataObject) -> None:
        copy = copied(path, tmp_path / "copy")
        file = copy
        if copy.is_dir():
            file = data.draw(st.sampled_from(sorted(p for p in copy.rglob("*") if p.is_file())))
        change = changed_text if file.suffix in TEXTS else changed_bytes
        file.write_bytes(change(data, file.read_bytes()))
        read(suite, copy)

    explore(check, examples)


def same(suite, name: str, record: Record, arrays: dict, whole: Record) -> None:
    """What the record says is what the arrays say, as NumPy reads them."""
    for what in ("coords", "energy", "forces", "gradient"):
        if what not in suite.names:
            continue
        values = np.asarray(arrays[suite.names[what]])
        assert values.dtype.kind in "iuf", f"{what} of type {values.dtype} were read as numbers"
        if what == "energy" and values.shape[1:] == (1,):  # as in MD17
            values = values[:, 0]
        sign = -1.0 if what == "gradient" else 1.0
        values = sign * values.astype(np.float64) * suite.scale.get(what, 1.0)
        actual = {"coords": record.conformers.xyz, "energy": record.conformers.energy}.get(
            what, record.conformers.forces
        )
        assert actual.shape[1:] == values.shape[1:]
        assert len(actual) <= len(values)
        for row in actual.reshape(len(actual), -1):
            assert np.isclose(values.reshape(len(values), -1), row, rtol=1e-6, atol=1e-6).all(1).any(), what
    if "numbers" in suite.names:
        assert np.array_equal(np.asarray(arrays[suite.names["numbers"]]), record.molecule.numbers)
    assert record.molecule.net_charge == whole.molecule.net_charge


@pytest.mark.filterwarnings("ignore")
@amounts(few=12, share=0.03)
@pytest.mark.parametrize("name", ARRAYS)
def test_changed_arrays(fixtures, tmp_path, monkeypatch, name, examples):
    monkeypatch.setattr(walk, "fault", lambda path: "")  # HDF5 itself wrote the files, and the walk takes 0.2 s
    suite, path = suite_of(name), fixtures(name)
    originals = {record.id: record for record in read(suite, path)[0]}
    arrays = {s.name: suite.arrays(s) for s in suite.samples()}

    def check(data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(sorted(arrays)))
        what = data.draw(st.sampled_from(sorted(arrays[entry])))
        new = changed_array(data, np.asarray(arrays[entry][what]))
        folder = tmp_path / "changed"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        changed = {**arrays, entry: {**arrays[entry], what: new}}
        try:
            suite.save(folder / path.name, changed)
        except (TypeError, ValueError):  # HDF5 has no such type
            return
        records, messages = read(suite, folder / path.name)
        for record in records:
            where = next(key for key in changed if record.id.startswith(key))
            known = originals.get(record.id)  # frames of other bonds are an entry with another number
            original = known or next(one for key, one in originals.items() if key.startswith(where))
            same(suite, name, record, changed[where], original)
        lost = what == "wb97x_dz.energy"  # a group of ANI-1x without energies of the method is no entry
        assert len(records) + len(messages) >= len(arrays) - lost or "it is" in messages[0], (records, messages)

    explore(check, examples)
