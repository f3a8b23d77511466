"""A store that an earlier version wrote loads with the same content."""

import doctest
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from espalike import files
from espalike.data import store as store_module
from espalike.data.store import Store

FOLDER = Path(__file__).parent / "stored"


@pytest.mark.parametrize("name", ["format-1"])
def test_stores_of_earlier_versions_load(name):
    store = Store.open(FOLDER / name)
    store.verify()
    content = json.loads((FOLDER / f"{name}.json").read_text())
    assert store.column("id") == list(content)
    for record in store.records():
        expected = content[record.id]
        parts = {
            "molecule": record.molecule,
            "conformers": record.conformers,
            "esp": record.conformers.esp,
            "record": record,
        }
        for part, fields in expected.items():
            assert (parts[part] is None) == (fields is None)
            for field, value in (fields or {}).items():
                loaded = getattr(parts[part], field)
                if isinstance(value, list):
                    np.testing.assert_array_equal(loaded, value)
                else:
                    assert loaded == value


def test_molecules_of_an_old_manifest_are_counted_again():
    """Its manifest counts the acid and its anion, which have one connectivity, as one molecule."""
    store = Store.open(FOLDER / "format-1")
    assert (store.manifest["molecules"], "connectivities" in store.manifest) == (2, False)
    assert (store.counts["molecules"], store.counts["connectivities"]) == (3, 2)
    train = {"molecules": 2, "connectivities": 1, "entries": 2, "conformers": 3}
    assert store.counts["splits"] == {
        "train": train,
        "test": {"molecules": 1, "connectivities": 1, "entries": 1, "conformers": 1},
    }


def test_the_store_in_a_line_and_as_a_table():
    store = Store.open(FOLDER / "format-1")
    line = f"Store 'format-1': 3 molecules, 4 conformers, B3LYP-D3BJ/DZVP, GFN2-xTB, hash {store.hash[:12]}"
    assert repr(store) == line
    assert "<td>format-1</td><td>3</td><td>4</td><td>B3LYP-D3BJ/DZVP, GFN2-xTB</td>" in store._repr_html_()


def test_the_embedded_set_has_the_molecules_that_its_files_list():
    store = Store.open("sample")
    folder = Path(__file__).parents[2] / "data/sample"
    listed = len((folder / "molecules.smi").read_text().split("\n")) - 1
    readme = (folder / "README.md").read_text()
    assert store.counts["molecules"] == store.manifest["molecules"] == listed == 169
    assert "169 small molecules" in readme
    assert f"{store.counts['connectivities']} connectivities" in readme


def test_the_embedded_set_has_an_entry_for_each_kind_of_geometries():
    records = {record.id: record for record in Store.open("sample").records()}
    geometries = Counter()
    for name, record in records.items():
        geometries[record.kind] += len(record.conformers.xyz)
        assert (record.kind == "scan") == (record.dihedral is not None)
        if record.kind == "thermal":  # a minimum of GFN2-xTB, below the thermal frames of the same molecule
            relaxed = records[name.removesuffix("thermal") + "relaxed"]
            assert relaxed.molecule.smiles == record.molecule.smiles
            assert relaxed.split == record.split
            assert len(relaxed.conformers.xyz) == 1
            assert relaxed.conformers.energy[0] < np.mean(record.conformers.energy)
    assert geometries == {"relaxed": 169, "thermal": 1570, "distorted": 334, "scan": 552}
    readme = (Path(__file__).parents[2] / "data/sample/README.md").read_text()
    for count in ("526 entries", "**Relaxed geometries**, 169", "1,570", "334", "(552 geometries)"):
        assert count in readme


@pytest.mark.parametrize("module", [store_module, files])
def test_the_examples_of_docstrings(module):
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_the_sample_of_teacher_labels():
    store, other = Store.open("sample-aimnet2"), Store.open("sample")
    folder = Path(__file__).parents[2] / "data/sample-aimnet2"
    assert sum(path.stat().st_size for path in folder.glob("entries-*")) < 3e6
    geometries = Counter()
    for record in store.records():
        geometries[record.kind] += len(record.conformers.xyz)
        assert record.conformers.level == "AIMNet2"
    readme = (folder / "README.md").read_text()
    assert f"{store.counts['molecules']} molecules" in readme
    for kind in ("relaxed", "scan", "thermal"):
        assert f"{geometries[kind]:,} {kind}" in readme
    assert not set(store.column("key")) & set(other.column("key"))
