"""Layouts that users declare: the example of docs/data.md as pasted, archives, and what is refused."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from espalike.cli.main import main
from espalike.data.readers.arrays import ArraysReader
from espalike.data.readers.base import ReaderError
from espalike.data.store import Store
from tests.data.readers.arrays_suite import ArraysSuite
from tests.data.readers.samples import BOHR, HARTREE, graph_of, sample

SECTION = (
    (Path(__file__).parents[3] / "docs" / "data.md").read_text().split("## A layout of your own")[1].split("\n## ")[0]
)
NAMES = {"numbers": "z", "coords": "r", "energy": "e", "gradient": "g", "smiles": "smi"}
OPTIONS = {"level": "HF/STO-3G", "units": "coords bohr; energies hartree; forces hartree/bohr"}


def block(language):
    return re.search(rf"```{language}\n(.*?)```", SECTION, re.S)[1]


def test_the_example_of_the_documentation(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, "-c", block("python")], check=True)
    Path("conf/reader").mkdir(parents=True)
    Path("conf/reader/scf.yaml").write_text(block("yaml"))
    _, *arguments = shlex.split(block("bash"))
    assert main(arguments) == 0
    (record,) = Store.open("store/scf").records()
    assert (record.id, record.conformers.level, record.molecule.n_atoms) == ("small/water", "HF/STO-3G", 3)
    np.testing.assert_allclose(record.conformers.energy, np.array([-74.963291, -74.965008]) * HARTREE)
    np.testing.assert_allclose(
        record.conformers.forces[0, 0], np.array([-0.03525, -0.04648, 0]) * HARTREE / BOHR, rtol=1e-6
    )


class TestArrays(ArraysSuite):
    """A declared layout has the checks of every reader."""

    reader = ArraysReader
    config = "arrays"
    filename = "own.h5"
    level = "HF/STO-3G"
    options = {**OPTIONS, "names": {**NAMES, "charge": "q"}}  # noqa: RUF012
    names = {**NAMES, "charge": "q"}  # noqa: RUF012
    scale = {"coords": BOHR, "energy": HARTREE, "gradient": HARTREE / BOHR}  # noqa: RUF012
    contradicting = None
    says = {  # noqa: RUF012
        "unit unknown": "r are in unit 'furlong', which is not known",
        "missing array": r"mol-0: array 'e' is missing; .*; give its name, 'reader\.names={energy: NAME}'",
    }
    impossible = {"duplicated ids": "names of HDF5 groups are unique"}  # noqa: RUF012


def archive(path, s, **changes):
    arrays = {"z": s.numbers, "r": s.xyz / BOHR, "e": s.energy / HARTREE, "g": -s.forces * BOHR / HARTREE, **changes}
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})


def test_archives_without_a_smiles(tmp_path):
    s = sample("CC(=O)[O-]")
    names = {key: name for key, name in NAMES.items() if key != "smiles"}
    archive(tmp_path / "a.npz", s, q=np.array(-1))
    options = {**OPTIONS, "container": "npz", "names": {**names, "charge": "q"}}
    (record,) = ArraysReader(tmp_path, **options)
    assert graph_of(record.molecule.smiles) == graph_of(s.smiles)
    np.testing.assert_allclose(record.conformers.forces, s.forces)
    (record,) = ArraysReader(tmp_path, **{**options, "smiles": "CC(=O)[O-]"})
    assert graph_of(record.molecule.smiles) == graph_of(s.smiles)
    for charge, reason in ((0, "no closed shell"), (0.5, "charge unreadable")):
        archive(tmp_path / "a.npz", s, q=np.array(charge))
        assert [r.reason for r in ArraysReader(tmp_path, **options)] == [reason]


def test_energies_in_a_column_as_in_md17(tmp_path):
    s = sample("CO")
    options = {**OPTIONS, "container": "npz", "names": NAMES}
    archive(tmp_path / "a.npz", s, e=s.energy[:, None] / HARTREE, smi=np.array(s.smiles))
    (record,) = ArraysReader(tmp_path, **options)
    np.testing.assert_allclose(record.conformers.energy, s.energy)
    archive(tmp_path / "a.npz", s, e=np.stack([s.energy, s.energy], axis=1) / HARTREE, smi=np.array(s.smiles))
    assert [r.reason for r in ArraysReader(tmp_path, **options)] == ["shapes disagree"]


def test_what_an_entry_may_lack(tmp_path):
    archive(tmp_path / "a.npz", sample("CO"), g=None, smi=np.array(sample("CO").smiles))
    options = {**OPTIONS, "container": "npz", "names": NAMES}
    assert [r.reason for r in ArraysReader(tmp_path, **options)] == ["no gradient"]
    (record,) = ArraysReader(tmp_path, **options, optional=["gradient"])
    assert record.conformers.forces is None
    (record,) = ArraysReader(tmp_path, **{**options, "names": {**NAMES, "gradient": None}})
    assert record.conformers.forces is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": {**NAMES, "energies": "e"}}, "names or optional has energies; known: numbers, coords"),
        ({"names": {"coords": "r"}}, "give the names of numbers, 'reader.names={NAME: ARRAY}'"),
        ({"names": {**NAMES, "forces": "f"}}, "both forces and gradient; give one"),
        ({"container": "zarr"}, "reader.container is 'zarr'; known: hdf5, npz"),
        ({"level": None}, "give reader.level"),
        ({"units": "coords bohr; energies hartree"}, "nothing says the unit of 'g'"),
    ],
)
def test_layouts_that_are_refused(tmp_path, options, message):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        s = sample("CO")
        group = file.create_group("m")
        group["z"], group["r"], group["e"], group["g"] = s.numbers, s.xyz, s.energy, s.forces
        group.attrs["smi"] = s.smiles
    with pytest.raises(ReaderError, match=re.escape(message)):
        list(ArraysReader(tmp_path / "a.h5", **{**OPTIONS, "names": NAMES, **options}))
