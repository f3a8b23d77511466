"""Baselines by name: every calculator, OpenFF's force fields, and what is not installed."""

import re
import sys

import numpy as np
import pytest

from espalike import export
from espalike.chem import embed, from_smiles
from espalike.chem.conformers import Conformers
from espalike.data.schema import Record
from espalike.evaluation import baselines, predictors
from espalike.evaluation.baselines import NotInstalled, baseline, label_of
from espalike.model import load
from espalike.qm.mmff import MMFFCalculator


@pytest.fixture(scope="module")
def record():
    molecule = from_smiles("CCO", name="ethanol")
    xyz = embed(molecule, 1, seed=1) + np.random.default_rng(0).normal(0, 0.03, (3, molecule.n_atoms, 3))
    return Record("ethanol", molecule, Conformers(xyz, np.zeros(3), None, "none", "made-up"))


def test_every_calculator_is_a_baseline():
    """Each name has settings with a class; names that need more settings say which, in the example that users type."""
    assert {"mmff94", "gfn2-xtb", "ani1x", "openmm-xml", "espalike", "pyscf", "zero"} <= set(baselines.names())
    needs = {"openmm-xml": ["files"], "ensemble": ["models"], "qcengine": ["program", "method"]}
    for name in set(baselines.names()) - {"zero"}:
        settings = baselines._with_defaults(name, dict.fromkeys(needs.get(name, ()), "given"))
        assert settings["_target_"].startswith("espalike.qm.")
    for name, keys in needs.items():
        example = ", ".join(f"{key}: ..." for key in keys)
        with pytest.raises(ValueError, match=re.escape(f"baselines=[{{calculator: {name}, {example}}}]")):
            baselines._with_defaults(name, {})


@pytest.mark.parametrize(
    ("entry", "calculator"),
    [("mmff94", MMFFCalculator()), ({"calculator": "mmff94", "variant": "MMFF94s"}, MMFFCalculator("MMFF94s"))],
)
def test_a_calculator_is_asked_for_every_conformer(record, entry, calculator):
    energy, forces = baseline(entry)(record)
    for k, xyz in enumerate(record.conformers.xyz):
        expected, expected_forces = calculator(record.molecule, xyz)
        assert energy[k] == expected
        np.testing.assert_array_equal(forces[k], expected_forces)


def test_a_batch_is_asked_for_all_conformers_at_once(record):
    class Batched:
        def batch(self, molecule, xyz):
            assert molecule is record.molecule
            assert xyz.shape == record.conformers.xyz.shape
            return np.arange(3.0), np.full(xyz.shape, 2.0)

    energy, forces = predictors.from_calculator(Batched())(record)
    np.testing.assert_array_equal(energy, [0, 1, 2])
    assert forces.shape == record.conformers.xyz.shape


def test_openmm_xml_scores_as_the_model_it_was_written_from(record, tmp_path):
    model = load("espalike-small")
    path = export.write(model.parametrize(record.molecule), tmp_path / "ethanol.system.xml")
    energy, forces = baseline({"calculator": "openmm-xml", "files": str(path), "label": "mine"})(record)
    expected, expected_forces = predictors.ForceField(model.parametrize)(record)
    np.testing.assert_allclose(energy, expected, atol=1e-4)
    np.testing.assert_allclose(forces, expected_forces, atol=1e-3)


def test_names_in_the_tables():
    assert label_of("gfn2-xtb") == "gfn2-xtb"
    assert label_of({"calculator": "pyscf", "basis": "def2-svp"}) == "pyscf"
    assert label_of({"calculator": "pyscf", "label": "PBE"}) == "PBE"
    assert label_of({"_target_": "my.own.Potential"}) == "Potential"
    with pytest.raises(ValueError, match=r"expected \{calculator: NAME, \.\.\.\}"):
        label_of({"weights": "x"})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("gfn2xtb", "no baseline 'gfn2xtb'; did you mean 'gfn2-xtb'"),
        ({"calculator": "mmff94", "varient": "MMFF94s"}, "baseline mmff94: no setting varient; settings: variant"),
        ({"calculator": "mmff94", "variant": "MMFF95"}, "unknown MMFF variant 'MMFF95'"),
        ("openmm-xml", "baseline openmm-xml needs files: baselines=[{calculator: openmm-xml, files: ...}]"),
        ({"calculator": "openmm-xml", "files": "nowhere.xml"}, "nowhere.xml"),
    ],
)
def test_wrong_names_and_settings_are_errors(entry, message):
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        baseline(entry)
    assert message in str(caught.value)


def test_what_is_not_installed_is_named_with_its_extra(monkeypatch):
    def lacking(package):
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setattr("importlib.metadata.version", lacking)
    with pytest.raises(NotInstalled, match=r"gfn2-xtb: .*tblite.*pip install 'espalike\[qm\]'"):
        baseline("gfn2-xtb")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "openff.toolkit", None)
    with pytest.raises(NotInstalled, match=r"openff-2.2.1: .*pip install 'espalike\[openff\]'"):
        baseline("openff-2.2.1")


def test_missing_weights_and_programs_are_not_installed(tmp_path):
    pytest.importorskip("torchani", reason="needs the extra ani")
    with pytest.raises(NotInstalled, match=r"ani2x: .*weights of ANI-1x only"):
        baseline("ani2x")
    with pytest.raises(FileNotFoundError, match="missing"):  # a folder that the user gave
        baseline({"calculator": "ani2x", "weights": str(tmp_path)})
    pytest.importorskip("qcengine", reason="needs the extra qm")
    with pytest.raises(NotInstalled, match="qcengine: QCEngine finds no program 'nosuch'"):
        baseline({"calculator": "qcengine", "program": "nosuch", "method": "hf"})
