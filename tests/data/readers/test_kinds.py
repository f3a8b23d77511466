"""Files of other programs are known by their content, whatever reader is asked for them."""

import pickle

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect

from espalike.data.readers.base import ReaderError
from espalike.data.readers.extxyz import ExtxyzReader
from espalike.data.readers.hdf5 import Hdf5Reader
from espalike.data.readers.kinds import of_another_program, which_reader
from espalike.data.readers.qcarchive import QCArchiveReader
from espalike.data.readers.rmd17 import Rmd17Reader
from espalike.data.readers.table import TableReader
from tests.data.readers.samples import EV, sample


@pytest.mark.parametrize("name", ["a.db", "a.json", "a.traj"])
def test_files_of_ase_and_the_way_to_read_them(tmp_path, name):
    path, s = tmp_path / name, sample("CO")
    images = []
    for xyz, energy, forces in zip(s.xyz, s.energy, s.forces, strict=True):
        images.append(Atoms(numbers=s.numbers, positions=xyz))
        images[-1].calc = SinglePointCalculator(images[-1], energy=energy / EV, forces=forces / EV)
    if name == "a.traj":
        ase.io.write(path, images)
    else:
        with connect(str(path)) as database:
            for atoms in images:
                database.write(atoms)
    for reader in (ExtxyzReader, Hdf5Reader, QCArchiveReader, Rmd17Reader, TableReader):
        with pytest.raises(ReaderError, match=rf'{name}: a file of ASE; write it as .*ase.io.read\("{name}", ":"\)'):
            reader(path)
    ase.io.write(tmp_path / "data.xyz", ase.io.read(path, ":"), format="extxyz")
    (record,) = ExtxyzReader(tmp_path / "data.xyz", level="HF/STO-3G")
    np.testing.assert_allclose(record.conformers.energy, s.energy, rtol=1e-9)
    np.testing.assert_allclose(record.conformers.forces, s.forces, atol=1e-5)


def test_pickles_tables_and_what_is_read(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"energy": 1.0}))
    (tmp_path / "a.csv").write_text("smiles,energy\nCCO,1.0\n")
    np.savez(tmp_path / "a.npz", energy=np.zeros(3))
    (tmp_path / "a.xyz").write_text("1\n\nH 0 0 0\n")
    assert of_another_program(tmp_path / "a.pkl").startswith("a pickle, which can run code")
    assert which_reader(tmp_path / "a.csv").endswith("write it as parquet, with lists of numbers (reader=table)")
    assert which_reader(tmp_path / "a.npz").endswith("reader=rmd17, grappa or arrays")
    assert which_reader(tmp_path / "a.xyz").endswith("reader=extxyz")
    assert which_reader(tmp_path / "a.dat").endswith("reader=NAME")
