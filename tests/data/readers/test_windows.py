"""Text files that were saved on Windows: with a byte order mark, and with lines that end in CR LF."""

from codecs import BOM_UTF8

import numpy as np
import pytest

from espalike.data.readers.structure import SmilesOption
from tests.data.readers import test_extxyz, test_forcebalance, test_sdf

TEXTS = {".sdf", ".xyz", ".txt", ".pdb", ".json"}


def saved(path):
    """Save the texts of a file or folder as editors of Windows do."""
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.suffix in TEXTS:
            file.write_bytes(BOM_UTF8 + file.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize(
    "suite",
    [test_sdf.TestSdf(), test_extxyz.TestExtxyz(), test_forcebalance.TestForceBalance()],
    ids=lambda s: s.config,
)
def test_records_are_the_same(suite, tmp_path):
    path = tmp_path / suite.filename
    suite.write(path, suite.samples())
    before = suite.records(path)
    saved(path)
    for old, new in zip(before, suite.records(path), strict=True):
        assert (new.id, new.molecule.smiles) == (old.id, old.molecule.smiles)
        for name in ("xyz", "energy", "forces"):
            np.testing.assert_array_equal(getattr(new.conformers, name), getattr(old.conformers, name))


def test_a_table_of_smiles(tmp_path):
    (tmp_path / "names.csv").write_bytes(BOM_UTF8 + "name,smiles\r\nµ,CCO\r\n".encode())
    assert SmilesOption(str(tmp_path / "names.csv")).of("µ") == "CCO"
