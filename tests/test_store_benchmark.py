"""The benchmark of large stores: its file is what it says, and it prints what it measured."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from espalike.chem import connectivity_key, from_smiles
from espalike.data.audit import Audit
from espalike.data.filters import Filters
from espalike.data.readers.hdf5 import Hdf5Reader
from espalike.data.schema import Rejection

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import store_data  # noqa: E402 - a script's module, found by path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A file of 12 entries, made of four molecules that come with the package, and these molecules."""
    sources = store_data.from_package()[-4:]
    path = tmp_path_factory.mktemp("made") / "1150.h5"
    store_data.write_file(path, sources, 1150)
    records = list(Hdf5Reader(path))
    assert not [r for r in records if isinstance(r, Rejection)]
    return records, sources


def test_entries_are_the_molecules_with_atoms_in_another_order(made):
    records, sources = made
    assert [len(r.conformers.xyz) for r in records] == [100] * 11 + [50]
    keys = [connectivity_key(from_smiles(source.smiles)) for source in sources]
    assert [r.key for r in records] == keys * 3
    assert len({r.molecule.smiles for r in records}) == len(records)
    assert all(20 <= r.molecule.n_atoms <= 60 for r in records)


def test_forces_are_the_slopes_of_the_energies(made):
    """Between two displaced geometries of a reference, dE = −½(F₁ + F₂)·Δx exactly, for springs."""
    for record in made[0]:
        conf = record.conformers
        step = np.diff(conf.xyz, axis=0)
        near = np.abs(step).max((1, 2)) < 8 * store_data.SIGMA  # of the same reference geometry
        assert near.sum() > 40
        work = -0.5 * ((conf.forces[1:] + conf.forces[:-1]) * step).sum((1, 2))
        np.testing.assert_allclose(np.diff(conf.energy)[near], work[near], atol=2e-3)


def test_an_ingest_finds_nothing_wrong(made):
    audit, filters = Audit(), Filters()
    for record in made[0]:
        kept, dropped = filters(record)
        assert not dropped
        audit.add(kept)
    outcomes = {verdict.audit: verdict.outcome for verdict in audit.verdicts()}
    assert outcomes == {"forces": "passed", "energies": "passed", "bonds": "skipped", "spread": "passed"}


def test_data_sets_in_a_folder_are_used_first(tmp_path):
    assert store_data.from_shared(tmp_path) == []
    store_data.write_file(tmp_path / store_data.SHARED[0], store_data.from_package()[-2:], 300)
    sources = store_data.from_shared(tmp_path)
    assert len(sources) == 3
    assert all(source.xyz.shape == (100, len(source.numbers), 3) for source in sources)


@pytest.mark.slow
def test_the_table(tmp_path):
    options = ["--conformers", "2000", "--work", str(tmp_path / "work"), "--json", str(tmp_path / "figures.json")]
    options += ["--shared", str(tmp_path), "--rounds", "2", "--steps", "1", "--batch", "4", "--clean"]
    command = [sys.executable, str(BENCHMARKS / "store.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "no data sets in" in done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["conformers"] == figures["stored"] + sum(figures["rejected"].values()) == 2000
    assert figures["stored"] > 1900
    assert figures["memory"]["conformers"] == sum(figures["open"]["counts"].values()) - figures["open"]["counts"]["val"]
    assert 0.3 < figures["speed"]["train"]["ratio_cpu"]["median"] < 3.0
    assert set(figures["workers"]) == {"0", "1", "2"}
    assert re.search(r"ingest, conformers/s of processor time\W+[\d,]+", done.stdout)
    assert not list((tmp_path / "work").iterdir())
