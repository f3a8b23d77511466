"""Labels by a calculator of one's own: its faults end the job or are counted, and never reach a store in silence."""

from pathlib import Path

import numpy as np
import pytest

from espalike.cli.main import main
from espalike.data.store import Store
from espalike.qm import compute
from espalike.qm.mmff import MMFFCalculator
from tests.pools import here

FOLDER = Path(__file__).parent  # of foreign.py
FAULTS = {"no number": "nan", "transposed": "shape", "array": "shape", "raises": "KeyError"}
"""Faults that one molecule has, and the reason by which its labels are counted."""


@pytest.fixture
def label(tmp_path, monkeypatch):
    """Labels four molecules by a calculator with a fault; the exit status."""
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setenv("PYTHONPATH", str(FOLDER))
    (tmp_path / "some.smi").write_text("CCO ethanol\nCC(=O)NC amide\nCCCC butane\nCC(=O)OC ester\n")
    arguments = [f"input={tmp_path}/some.smi", "calculator@sampler.calculator=mmff94", "sampler.frames=6"]

    def run(fault, *more, name="Foreign"):
        own = ["calculator=mmff94", "~calculator.variant", f"calculator._target_=foreign.{name}"]
        return main(["label", *own, f"+calculator.fault='{fault}'", *arguments, f"out={tmp_path}/store", *more])

    return run


@pytest.fixture
def in_this_process(monkeypatch):
    monkeypatch.setattr(compute, "pool", here)


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    ("fault", "message"), [("gradient", "opposite sign"), ("kJ/mol", "kJ/mol"), ("bohr", "kcal/mol/bohr")]
)
def test_forces_of_another_sign_or_unit_end_the_job(label, tmp_path, capsys, fault, message):
    assert label(fault) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "audit=warn" in error
    assert not list((tmp_path / "store").glob("*.arrow"))
    before = {path: path.read_bytes() for path in (tmp_path / "store" / "labels").rglob("*") if path.is_file()}
    assert label(fault, "audit=warn") == 0  # from the labels that are kept
    assert message in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before
    manifest = Store.open(tmp_path / "store").manifest
    assert {verdict["outcome"] for verdict in manifest["audits"]} == {"failed"}
    assert message in str(manifest["audits"])


def test_labels_without_a_fault_pass(label, tmp_path):
    """By a worker process, which imports the calculator anew."""
    assert label("") == 0
    assert Store.open(tmp_path / "store").manifest["audits"] == []


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("name", ["Foreign", "ForeignBatches"])
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_one_molecule_are_counted_and_the_others_are_stored(label, tmp_path, capsys, fault, name):
    assert label(fault, name=name) == 1
    assert "amide: foreign" in capsys.readouterr().err
    store = Store.open(tmp_path / "store")
    assert store.manifest["rejected"] == {f"label: {FAULTS[fault]}": 6}
    records = list(store.records())
    assert {record.id.split("-")[0] for record in records} == {"ethanol", "butane", "ester"}
    for record in records:
        energy, forces = MMFFCalculator()(record.molecule, np.float64(record.conformers.xyz[-1]))
        assert record.conformers.energy[-1] == pytest.approx(energy, abs=1e-3)
        np.testing.assert_allclose(record.conformers.forces[-1], forces, atol=0.02)


@pytest.mark.usefixtures("in_this_process")
def test_where_all_labels_fail_the_reasons_are_printed(label, tmp_path, capsys):
    (tmp_path / "some.smi").write_text("CC(=O)NC amide\n")
    assert label("transposed") == 2
    error = capsys.readouterr().err
    assert "forces of shape (3, 12); expected () and (12, 3)" in error
    assert "no record is left" in error


def test_unknown_consequences_are_refused(label, capsys):
    assert label("", "audit=maybe") == 2
    assert "audit=maybe: expected error or warn or off" in capsys.readouterr().err
