"""The suite every reader inherits. A test module of a reader subclasses `ReaderSuite` and fills in its hooks.

`tests/data/readers/test_hdf5.py` is the shortest example.

The fixture is physical: energies are quadratic in the coordinates about a shaken, non-planar geometry, and forces are
their exact derivative. So the sign and the units of energies, forces and coordinates are checked against each other
after reading, without trusting any conversion.
"""

from __future__ import annotations

import inspect
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import yaml

from espalike.data.filters import Filters, describe
from espalike.data.readers.base import Reader, ReaderError
from espalike.data.schema import Record, RecordError, Rejection
from tests.data.readers.samples import Sample, graph_of, samples

CONFIGS = Path(__file__).parents[3] / "configs" / "reader"

CORRUPTIONS = {
    "truncated": "it is cut short; get the file again",  # the second half of the file is gone
    "empty": "it is empty; get the file again",  # no bytes
    "foreign": "it is not HDF5 or is damaged",  # something else entirely under that name
    "unit unknown": "coords are in unit 'furlong', which is not known",  # a unit that does not exist
    "unit contradicts": "are in 'ev', the file as a whole says 'hartree'",  # two units of one quantity that differ
    "permuted atoms": r"mol-0: atom \d+ has atomic number \d, \d in the SMILES",  # atoms of different elements swapped
    # hydrogens of different neighbours swapped, all else alike: `espalike.data.filters`
    "permuted equal atoms": "mol-0: no conformer is left.*bonds differ from the graph",
    "wrong charge": "mol-0: charge 1, 0 in the SMILES",  # total charge off by one
    "nan energy": r"mol-0: (energies hold NaN|1 of \d+ conformers, energies not finite)",
    "nan forces": r"mol-0: (forces hold NaN|1 of \d+ conformers, forces not finite)",
    "nan coordinates": r"mol-0: (coordinates hold NaN|1 of \d+ conformers, coordinates not finite)",
    "duplicated ids": "mol-0: entries 1 and 2 have this name",
    "missing array": "is missing; arrays found: ",
    "wrong shape": r"forces have shape \(3, 5, 3\), expected \(3, 6, 3\)",
}
"""What may be wrong with a file, and the usual message: a regular expression. Each reader's suite replaces messages
(`says`) and states which corruptions its format cannot have (`impossible`)."""


def cut(path: Path) -> None:
    """Leave the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    """Leave no bytes of a file."""
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    """Put the beginning of a picture in its place."""
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4)


def with_nan(field: str, index: Any) -> Callable[[Sample], Sample]:
    """Makes one number of a sample NaN."""

    def edit(s: Sample) -> Sample:
        values = getattr(s, field).copy()
        values[index] = np.nan
        return replace(s, **{field: values})

    return edit


DAMAGE = {"truncated": cut, "empty": empty, "foreign": foreign}
"""Corruptions of a file's bytes."""
EDITS: dict[str, Callable[[Sample], Sample]] = {
    "permuted atoms": lambda s: s.permuted(),
    "permuted equal atoms": lambda s: s.permuted(equal=True),
    "wrong charge": lambda s: replace(s, charge=s.charge + 1),
    "nan energy": with_nan("energy", -1),
    "nan forces": with_nan("forces", (-1, 2, 0)),
    "nan coordinates": with_nan("xyz", (0, 0, 0)),
    "wrong shape": lambda s: replace(s, forces=s.forces[:, 1:]),
}
"""Corruptions of the first sample's data, made before it is written."""


class ReaderSuite:
    """Tests of one reader. Fill in the attributes, `write` and `read`; override the rest where a format needs it.

    Attributes:
        reader: the class.
        config: name of its YAML in `configs/reader`.
        filename: what the fixture is called (a folder's name where the format is a folder).
        level: level of theory that records must have with `options` as they are.
        options: options that reading the fixture needs.
        contradicting: text for the option `units` that contradicts what file or format say; None = no such text.
        first_file: file of the first sample below the fixture, where the format is a folder.
        first_id: identifier of the first sample's record, in messages.
        refused: corruptions for which the whole file is refused (`ReaderError`); for others the entry is rejected and
            the others are read.
        says: messages that differ from those of `CORRUPTIONS`.
        impossible: why the format cannot have a corruption, or nothing in it can show one.
        needed: field of `Sample` without which there is no record.
        corruption_options: options that go before `options` in the test of a corruption.
    """

    reader: ClassVar[type[Reader]]
    config: ClassVar[str]
    filename: ClassVar[str]
    level: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    contradicting: ClassVar[str | None] = "energies ev"
    first_file: ClassVar[str] = ""
    first_id: ClassVar[str] = "mol-0"
    refused: ClassVar[Sequence[str]] = ("truncated", "empty", "foreign")
    says: ClassVar[Mapping[str, str]] = {}
    impossible: ClassVar[Mapping[str, str]] = {}
    needed: ClassVar[str] = "energy"
    corruption_options: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    # ---- what a subclass writes

    def samples(self) -> list[Sample]:
        """What the fixture holds; override to leave out what the format cannot have (charges, forces, sulphur …)."""
        return samples()

    def write(self, path: Path, samples: list[Sample]) -> None:
        """Write the samples at `path` with the format's own library, in the format's own units.

        Convert with the independent `HARTREE`, `BOHR`, … of this module, never with `espalike.units`.
        """
        raise NotImplementedError

    def read(self, path: Path) -> list[Sample]:
        """What the format's own library reads at `path`, one sample per record, converted with independent units."""
        raise NotImplementedError

    def spoil(self, path: Path, name: str) -> None:
        """Corrupts the fixture at `path`; what belongs to an entry is done to the first sample."""
        if name in DAMAGE:
            DAMAGE[name](path / self.first_file if self.first_file else path)
            return
        first, second, *others = self.samples()
        if name == "duplicated ids":
            second = replace(second, name=first.name)
        elif name == "missing array":
            first = replace(first, **{self.needed: None})
        else:
            first = EDITS[name](first)
        self.rewrite(path, [first, second, *others])

    def rewrite(self, path: Path, samples: list[Sample]) -> None:
        """Put a fixture of other samples in the place of the one at `path`."""
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.write(path, samples)

    # ---- what is tested

    def open(self, path: Path, **options) -> Reader:
        return self.reader(path, **{**self.options, **options})

    @pytest.fixture
    def path(self, tmp_path) -> Path:
        path = tmp_path / self.filename
        self.write(path, self.samples())
        return path

    def records(self, path: Path, **options) -> list[Record]:
        records = list(self.open(path, **options))
        assert all(isinstance(r, Record) for r in records), [r for r in records if isinstance(r, Rejection)]
        return records

    def test_records_equal_what_the_library_reads(self, path):
        expected = self.read(path)
        records = self.records(path)
        assert len(records) == len(expected) > 1
        for record, s in zip(records, expected, strict=True):
            assert s.id is None or record.id == s.id
            conf = record.conformers
            assert record.molecule.numbers.tolist() == np.asarray(s.numbers).tolist()
            assert graph_of(record.molecule.smiles) == graph_of(s.smiles)
            assert record.molecule.net_charge == s.charge
            np.testing.assert_allclose(conf.xyz, s.xyz, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(conf.energy, s.energy, rtol=1e-9)
            assert (conf.forces is None) == (s.forces is None)
            if s.forces is not None:
                np.testing.assert_allclose(conf.forces, s.forces, rtol=1e-9, atol=1e-9)
            assert {a.dtype for a in (conf.xyz, conf.energy, conf.forces) if a is not None} == {np.dtype(np.float64)}

    def test_records_equal_the_numbers_before_they_were_written(self, path):
        """This catches a writer and a reader that err alike."""
        for record, s in zip(self.records(path), self.samples(), strict=True):
            conf = record.conformers
            assert graph_of(record.molecule.smiles) == graph_of(s.smiles)
            np.testing.assert_allclose(conf.xyz, s.xyz, atol=2e-5)
            np.testing.assert_allclose(conf.energy, s.energy, rtol=1e-9, atol=1e-3)
            if conf.forces is not None:
                np.testing.assert_allclose(conf.forces, s.forces, atol=1e-3)

    def test_forces_are_minus_the_derivative_of_the_energies(self, path):
        """The trapezoid rule is exact for the fixture's quadratic energies."""
        compared = 0
        for record in self.records(path):
            conf = record.conformers
            if conf.forces is None:
                pytest.skip("the format has no forces")
            work = 0.5 * ((conf.forces[1:] + conf.forces[:-1]) * np.diff(conf.xyz, axis=0)).sum((1, 2))
            np.testing.assert_allclose(np.diff(conf.energy), -work, atol=2e-3)
            compared += int((np.abs(work) > 0.1).sum())
        assert compared > 1

    def test_good_geometries_pass_the_filters(self, path):
        for record in self.records(path):
            kept, dropped = Filters()(record)
            assert len(kept.conformers.xyz) == len(record.conformers.xyz), dropped

    def test_length_order_and_resuming(self, path):
        reader = self.open(path)
        ids = [r.id for r in reader]
        assert len(reader) == len(ids) == len(set(ids)) > 1
        assert [r.id for r in self.open(path)] == ids
        for start in (0, 1, len(ids) - 1, len(ids)):
            assert [r.id for r in reader.entries(start)] == ids[start:]

    def test_fingerprint_is_of_the_content_not_of_the_place(self, path, tmp_path):
        before = self.open(path).fingerprint()
        elsewhere = tmp_path / "elsewhere" / self.filename
        elsewhere.parent.mkdir()
        (shutil.copytree if path.is_dir() else shutil.copy)(path, elsewhere)
        assert self.open(elsewhere).fingerprint() == self.open(path).fingerprint() == before
        first, *others = self.samples()
        self.rewrite(path, [replace(first, energy=first.energy + 1.0), *others])
        assert self.open(path).fingerprint() != before

    def test_level_source_and_manifest(self, path):
        reader = self.open(path)
        assert {r.conformers.level for r in self.records(path)} == {self.level}
        assert {r.conformers.source for r in self.records(path)} == {self.options.get("source", path.stem)}
        assert reader.manifest["file"] == path.name
        assert json.loads(json.dumps(reader.manifest)) == reader.manifest
        records = self.records(path, level="HF/STO-3G", source="mine")
        assert {(r.conformers.level, r.conformers.source) for r in records} == {("HF/STO-3G", "mine")}

    def test_units_given_twice_may_not_contradict(self, path):
        with pytest.raises(ReaderError, match="furlong"):
            list(self.open(path, units="energies furlong"))
        if self.contradicting is None:
            pytest.skip("nothing in the file says a unit; the option replaces the format's")
        with pytest.raises(ReaderError, match=r"energ.*option"):
            list(self.open(path, units=self.contradicting))

    def test_the_yaml_lists_every_option_with_its_default(self):
        written = yaml.safe_load((CONFIGS / f"{self.config}.yaml").read_text())
        assert written.pop("_target_") == f"{self.reader.__module__}.{self.reader.__qualname__}"
        assert written.pop("path") == "???"
        options = {name: p.default for name, p in inspect.signature(self.reader).parameters.items() if name != "path"}
        assert written == options

    def test_nothing_there(self, tmp_path):
        with pytest.raises(ReaderError, match=f"{re.escape(self.filename)}: no such file"):
            self.open(tmp_path / self.filename)

    def faults(self, path: Path, **options) -> tuple[list[str], int, bool]:
        """Messages of reader and connectivity filter, the number of records left, and whether all was refused."""
        try:
            reader = self.open(path, **options)
            entries = list(reader)
        except ReaderError as error:
            named = path.name in str(error)
            return [str(error) if named else f"a message that does not name the file: {error}"], 0, True
        assert len(reader) == len(entries), "the length counts what is rejected, too"
        messages, left = [], 0
        for entry in entries:
            if isinstance(entry, Rejection):
                assert entry.reason
                assert entry.id
                assert entry.id not in entry.reason, "a reason is the same for all entries with the fault"
                messages.append(entry.message)
                continue
            try:
                _, dropped = Filters()(entry)
                messages += [message for _, message, _ in describe(entry, dropped)]
                left += 1
            except RecordError as error:
                messages.append(str(error))
        return messages, left, False

    def test_each_corruption_has_its_own_message_or_is_impossible(self):
        assert set(self.says) | set(self.impossible) <= set(CORRUPTIONS)
        assert not set(self.says) & set(self.impossible)
        messages = [{**CORRUPTIONS, **self.says}[name] for name in CORRUPTIONS if name not in self.impossible]
        assert len(set(messages)) == len(messages)

    @pytest.mark.parametrize("name", CORRUPTIONS)
    def test_corruption_is_caught(self, path, name):
        if name in self.impossible:
            pytest.skip(self.impossible[name])
        options = self.corruption_options.get(name, {})
        untouched, n, _ = self.faults(path, **options)
        assert (untouched, n) == ([], len(self.samples())), "without the corruption nothing is wrong"
        self.spoil(path, name)
        messages, left, refused = self.faults(path, **options)
        assert refused == (name in self.refused), messages
        assert not any("does not name the file" in message for message in messages)
        pattern = {**CORRUPTIONS, **self.says}[name].replace("mol-0", self.first_id)
        assert any(re.search(pattern, message) for message in messages), messages
        if name == "truncated":
            assert left < n
        elif not refused:
            assert len(messages) == 1, messages
            assert left == (n if "conformers, " in messages[0] else n - 1)  # one conformer is dropped, or the entry
