"""Numbers of a file are what the file says: fractions, truth values and texts do not become other numbers."""

import json

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from espalike.data.readers.base import ReaderError
from espalike.data.readers.complexes import ComplexesReader
from espalike.data.readers.extxyz import ExtxyzReader
from espalike.data.readers.forcebalance import ForceBalanceReader
from espalike.data.readers.grappa import GrappaReader
from espalike.data.readers.hdf5 import Hdf5Reader
from espalike.data.readers.qcarchive import QCArchiveReader
from espalike.data.readers.sdf import SdfReader
from espalike.data.readers.table import TableReader
from espalike.data.schema import Record, Rejection
from tests.data.readers import (
    test_ani,
    test_complexes,
    test_extxyz,
    test_forcebalance,
    test_grappa,
    test_hdf5,
    test_qcarchive,
)
from tests.data.readers import test_sdf as sdf
from tests.data.readers.samples import sample

LEVEL = "B3LYP-D3BJ/DZVP"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"atomic_numbers": np.array([6.4, 8.4, 1, 1, 1, 1])}, "not whole numbers"),
        ({"atomic_numbers": np.array([1e300, 8, 1, 1, 1, 1])}, "not whole numbers"),
        ({"atomic_numbers": np.ones(6, dtype=bool)}, "not numbers"),
        ({"energies": np.ones(3, dtype=bool)}, "not numbers"),
        ({"energies": np.ones(3, dtype=complex)}, "not numbers"),
    ],
)
def test_groups_of_hdf5(tmp_path, changes, reason):
    path = test_hdf5.write(tmp_path / "a.h5", {"m": test_hdf5.entry(**changes), "good": test_hdf5.entry()})
    good, bad = Hdf5Reader(path)
    assert (good.id, bad.id, bad.reason) == ("good", "m", reason)
    assert f"m/{next(iter(changes))}" in bad.message or next(iter(changes)) in bad.message


@pytest.mark.parametrize("array", ["energy_qm", "atomic_numbers", "xyz_qm"])
def test_truth_values_of_an_archive(tmp_path, array):
    s = sample("CO")
    test_grappa.write(
        tmp_path / "a.npz", s, **{array: np.asarray(test_grappa.TestGrappa().arrays(s).get(array, 1)) > 0}
    )
    (entry,) = GrappaReader(tmp_path / "a.npz", level=LEVEL)
    assert isinstance(entry, Record) if array == "xyz_qm" else entry.reason == "not numbers"


def test_rows_of_a_table(tmp_path):
    s = sample("CO")
    rows = {
        "smiles": [s.smiles],
        "atomic_numbers": [(s.numbers + 0.25).tolist()],
        "coords": [s.xyz[0].ravel().tolist()],
    }
    pq.write_table(pa.table({**rows, "energy": [-1.0]}), tmp_path / "a.parquet")
    (bad,) = TableReader(tmp_path / "a.parquet", level=LEVEL, units="coords angstrom; energies hartree")
    assert (bad.reason, "6.25" in bad.message) == ("not whole numbers", True)


def test_counts_of_complexes(tmp_path):
    chosen = test_complexes.records()
    path = test_complexes.packed(tmp_path / "a.h5", chosen, n_points=np.array([2.5, 1.5, 2.0]))
    with pytest.raises(ReaderError, match=r"a\.h5: n_points are .*expected whole numbers"):
        ComplexesReader(path)


def test_charges_of_complexes(tmp_path):
    path = test_complexes.sdf(tmp_path / "a.sdf", test_complexes.records()[:1], charge=lambda r: "0.4")
    (bad,) = SdfReader(path, level=LEVEL, interaction="E [kJ/mol]", charge="q")
    assert (bad.reason, "0.4" in bad.message) == ("not whole numbers", True)


def test_driven_torsions(tmp_path):
    s = sample("CCO")
    folder = test_forcebalance.target(tmp_path / "t", s, dihedrals=[[0.5, 1, 2, 3]])
    (bad,) = ForceBalanceReader(folder.parent, level=LEVEL)
    assert (bad.reason, "0.5" in bad.message) == ("driven torsion unreadable", True)


def test_a_geometry_that_is_not_finite_leaves_the_others(tmp_path):
    """A torsion drive of ForceBalance and a result of QCSchema: filters drop and count that geometry."""
    s = sample("CO", 4)
    for values in (s.xyz, s.energy):
        broken = values.copy()
        broken[-2] = np.nan
        changed = {"xyz": broken} if values is s.xyz else {"energy": broken}
        results = [json.loads(test_qcarchive.atomic(s, k).json()) for k in range(4)]
        if values is s.xyz:
            results[2]["molecule"]["geometry"][0] = float("nan")
        else:
            results[2]["properties"]["return_energy"] = float("nan")
        (tmp_path / "set.json").write_text(json.dumps(results))
        (record,) = QCArchiveReader(tmp_path / "set.json")
        assert isinstance(record, Record), record
        assert len(record.conformers.xyz) == 4
        folder = tmp_path / next(iter(changed))
        test_forcebalance.target(folder / "t", type(s)(**{**vars(s), **changed}))
        (record,) = ForceBalanceReader(folder, level=LEVEL)
        assert isinstance(record, Record), record


def test_frames_that_cannot_be_read_are_named(tmp_path):
    path = tmp_path / "a.xyz"
    test_extxyz.write(path, [sample("CO")])
    path.write_text(path.read_text() + "what\n")
    good, bad = ExtxyzReader(path, level=LEVEL)
    assert isinstance(good, Record)
    assert isinstance(bad, Rejection)
    assert bad.message.startswith("a.xyz, byte ")
    assert "found 'what'; nothing after it is read" in bad.message
    sdf.write(tmp_path / "a.sdf", [sample("CO")])
    (tmp_path / "a.sdf").write_text((tmp_path / "a.sdf").read_text().replace("V2000", "V9000", 1))
    bad, *_ = SdfReader(tmp_path / "a.sdf", **sdf.OPTIONS)
    assert bad.message.startswith("a.sdf, byte 0: ")


def test_the_length_of_an_array_of_hdf5_is_kept(tmp_path):
    """Whole numbers of any type are read as they are."""
    for kind in (np.int8, np.uint8, np.uint64, np.float32, ">i2"):
        changes = {"atomic_numbers": np.array([6, 8, 1, 1, 1, 1]).astype(kind)}
        path = test_hdf5.write(tmp_path / "a.h5", {"m": test_hdf5.entry(**changes)})
        (record,) = Hdf5Reader(path)
        assert record.molecule.numbers.tolist() == [6, 8, 1, 1, 1, 1]
        with h5py.File(path) as file:
            assert file["m/atomic_numbers"].dtype == kind


@pytest.mark.parametrize("array", ["coordinates", "wb97x_dz.energy"])
@pytest.mark.parametrize("kind", ["S8", complex, bool])
def test_a_group_of_ani_leaves_the_others(tmp_path, array, kind):
    suite = test_ani.TestAni1x()
    arrays = {s.name: suite.arrays(s) for s in suite.samples()[:2]}
    arrays["mol-0"][array] = arrays["mol-0"][array].astype(kind)
    suite.save(tmp_path / suite.filename, arrays)
    bad, good = suite.reader(tmp_path / suite.filename, **suite.options)
    assert (bad.reason, f"mol-0/{array}" in bad.message) == ("not numbers", True)
    assert isinstance(good, Record)
