"""Each format by the command, its YAML and options as typed, into a store: the numbers of the fixture come out."""

import importlib
import re

import numpy as np
import pytest

from espalike.cli.main import main
from espalike.data.store import Store
from tests.data.readers.samples import graph_of, sample

LEVEL = "B3LYP-D3BJ/DZVP"
FORMATS = {
    "extxyz": ("ase", "TestExtxyz"),
    "sdf": ("rdkit", "TestSdf"),
    "forcebalance": ("geometric", "TestForceBalance"),
    "qcarchive": ("qcelemental", "TestQCArchive"),
    "espaloma": ("dgl", "TestEspaloma"),
    "spice": ("h5py", "TestSpice"),
    "ani": ("h5py", "TestAni1x"),
    "rmd17": ("numpy", "TestRmd17"),
    "grappa": ("numpy", "TestGrappa"),
    "table": ("pyarrow", "TestParquetOfConformers"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", FORMATS)
def test_format_by_the_command(tmp_path, name):
    library, suite_name = FORMATS[name]
    pytest.importorskip(library)
    if name == "espaloma":
        pytest.importorskip("openff.toolkit", reason="needs the extra openff")
    suite = getattr(importlib.import_module(f"tests.data.readers.test_{name}"), suite_name)()
    path, out = tmp_path / suite.filename, tmp_path / "store"
    suite.write(path, suite.samples())
    options = {**suite.options, "level": LEVEL}
    if "smiles" in options:  # too long to be typed
        rows = [f"{key},{value}" for key, value in options["smiles"].items()]
        (tmp_path / "names.csv").write_text("\n".join(["name,smiles", *rows]))
        options["smiles"] = str(tmp_path / "names.csv")
    typed = [
        f"reader.{key}='{value}'" if isinstance(value, str) else f"reader.{key}={value}".lower()
        for key, value in options.items()
    ]
    command = ["ingest", f"reader={name}", f"reader.path={path}", f"out={out}", *typed]
    assert main([*command, "origin=made up", "licence=MIT", "audit=warn"]) == 0
    store = Store.open(out)
    records = {graph_of(r.molecule.smiles)[3]: r for r in (store.record(i) for i in range(len(store)))}
    assert len(records) == len(suite.samples())
    for s in suite.samples():
        record = records[graph_of(s.smiles)[3]]
        assert record.conformers.level == LEVEL
        np.testing.assert_allclose(record.conformers.xyz, s.xyz, atol=1e-4)
        np.testing.assert_allclose(record.conformers.energy, s.energy, atol=1e-3)
        np.testing.assert_allclose(record.conformers.forces, s.forces, atol=1e-3)


@pytest.mark.parametrize(
    ("units", "says"),
    [
        (None, "audit of forces, set, .*: passed.*audit of energies, set, .*: passed"),
        ("energies hartree", "energies that look like eV read as hartree"),
        ("forces kcal/mol/angstrom", "slope of .* is 23.06 .*forces in eV/angstrom read as kcal/mol/angstrom"),
        ("coords bohr", "mol-0: no conformer is left.*bonds differ from the graph"),
    ],
)
def test_a_wrong_unit_of_a_file_that_says_none(tmp_path, capsys, units, says):
    """Extended XYZ in eV, read as something else: no reader can tell, the audits and filters of an ingest do."""
    pytest.importorskip("ase")
    module = importlib.import_module("tests.data.readers.test_extxyz")
    path = tmp_path / "set.xyz"
    module.write(path, [sample(smiles, 10, seed) for seed, smiles in enumerate(("CO", "CCN", "CC(=O)[O-]", "CSCC#N"))])
    command = ["ingest", "reader=extxyz", f"reader.path={path}", f"out={tmp_path / 'store'}", f"reader.level={LEVEL}"]
    status = main([*command, "origin=made up", "licence=MIT", *([f"reader.units='{units}'"] if units else [])])
    printed = " ".join("".join(capsys.readouterr()).split())
    assert (status == 0) == (units is None), printed
    assert re.search(says, printed), printed
