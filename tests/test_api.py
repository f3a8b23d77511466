"""The Python face: what `import espalike` offers, and that it does what the commands do."""

import doctest
import importlib
import re
import subprocess
import sys

import numpy as np
import pytest

import espalike
from espalike import api, settings
from espalike.cli.main import main
from tests.cli.inputs import geometry, morse_model


def test_names_are_listed_and_exist():
    assert set(espalike.__all__) <= set(dir(espalike))
    assert all(getattr(espalike, name) is not None for name in espalike.__all__)
    assert espalike.export.write is not None
    with pytest.raises(AttributeError, match="no attribute 'parametrise'; it has Molecule, Store"):
        espalike.parametrise  # noqa: B018


def test_import_is_light():
    heavy = {"torch", "numpy", "rdkit", "hydra", "openmm", "importlib.metadata"}
    code = f"import sys; before = set(sys.modules); import espalike; print({heavy!r} & (set(sys.modules) - before))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "set()\n"


def test_python_m_espalike_is_the_program():
    for option in ("-V", "--version"):
        done = subprocess.run([sys.executable, "-m", "espalike", option], capture_output=True, text=True, check=True)
        assert done.stdout == f"espalike {espalike.__version__}\n"
    done = subprocess.run([sys.executable, "-m", "espalike", "parametrise"], capture_output=True, text=True)
    assert (done.returncode, "did you mean" in done.stderr) == (2, True)


@pytest.mark.parametrize("module", [api, settings], ids=lambda module: module.__name__)
def test_examples_run(module):
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_parametrize_writes_the_files_of_the_command(tmp_path):
    (tmp_path / "two.sdf").write_text(geometry("CCO", "ethanol") + geometry("O", "water"))
    formats = ["system", "gromacs", "amber"]
    sources = [str(tmp_path / "two.sdf"), "CC"]
    assert main(["parametrize", *sources, "--format", ",".join(formats), "--out", str(tmp_path / "command")]) == 0
    systems = espalike.parametrize([tmp_path / "two.sdf", "CC"], out=tmp_path / "python", format=formats)
    assert [system.molecules[0].name for system in systems] == ["ethanol", "water", "molecule"]
    written = {path.name: path.read_text() for path in (tmp_path / "python").iterdir()}
    assert len(written) == 24
    assert written == {path.name: path.read_text() for path in (tmp_path / "command").iterdir()}


def test_one_molecule_gives_one_system_and_a_list_gives_a_list(tmp_path):
    (tmp_path / "one.sdf").write_text(geometry("CCO", "ethanol"))
    model = espalike.load()
    molecule = espalike.Molecule.from_smiles("CCO")
    expected = model.parametrize(molecule)
    for source in ("CCO", molecule, tmp_path / "one.sdf", str(tmp_path / "one.sdf")):
        for system in (espalike.parametrize(source, model), espalike.parametrize([source])[0]):
            for one, other in zip(system.terms, expected.terms, strict=True):
                np.testing.assert_allclose(one.values, other.values, rtol=1e-12)
    (tmp_path / "two.sdf").write_text(geometry("CCO") + geometry("O"))
    with pytest.raises(ValueError, match="holds 2 molecules; give it in a list"):
        espalike.parametrize(tmp_path / "two.sdf")
    assert espalike.parametrize([]) == []


def test_charges_of_the_input(tmp_path):
    (tmp_path / "water.sdf").write_text(geometry("O", "water", "-0.8 0.4 0.402"))
    with pytest.warns(UserWarning, match="water: charges of input summed to"):
        system = espalike.parametrize(tmp_path / "water.sdf", charges="input")
    np.testing.assert_allclose(system.bound("Coulomb").values[:, 0], np.array([-0.8, 0.4, 0.402]) - 0.002 / 3)


def test_failures_list_every_molecule_and_the_others_are_written(tmp_path):
    with pytest.raises(ValueError, match="3 of 4 molecules failed") as error:
        espalike.parametrize(["none.sdf", "CCO", "C1CC", "C[Se]C"], out=tmp_path)
    assert "none: none.sdf: no such file" in str(error.value)
    assert "molecule-2: C1CC: 'C1CC' is neither a file nor a valid SMILES" in str(error.value)
    assert "atom 2 is Se" in str(error.value)
    assert {path.name for path in tmp_path.iterdir()} == {"molecule.system.xml", "molecule.sdf", "molecule.pdb"}
    with pytest.raises(ValueError, match=r"^molecule: C1CC: 'C1CC' is neither a file nor a valid SMILES"):
        espalike.parametrize("C1CC")


def test_formats_are_refused_before_anything_is_computed(tmp_path):
    model = morse_model(tmp_path)
    with pytest.raises(ValueError, match="format 'amber' cannot express MorseBond; formats that can"):
        espalike.parametrize("CCO", model, out=tmp_path / "out", format=["system", "amber"])
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="unknown format 'charmm'"):
        espalike.parametrize("CCO", out=tmp_path / "out", format="charmm")


def test_a_molecule_outside_the_domain_is_a_warning_at_the_call():
    with pytest.warns(
        UserWarning, match=r"molecule: atom \d \(.*\): such surroundings were (not )?in .*training"
    ) as caught:
        espalike.parametrize("C1C23CC12C3")
    unseen = "molecule: atom 2 (C123CC1(C2)C3): such surroundings were not in training"
    assert unseen in [str(warning.message) for warning in caught]
    assert caught[0].filename == __file__


def test_training_takes_settings_as_values(monkeypatch):
    from espalike.training import run

    calls = []
    monkeypatch.setattr(run, "train", lambda settings, chosen: calls.append((settings, chosen)))
    espalike.train("quickstart", out="runs/a b", forcefield="class2", trainer={"max_epochs": 5}, overrides=["seed=2"])
    espalike.train(**{"data.stores": ["a,b", "c=d"], "optimizer.lr": 1e-3, "freeze": ["encoder"], "start": None})
    (first, chosen), (second, _) = calls
    assert (first["out"], first["forcefield"]["name"], first["seed"]) == ("runs/a b", "class2", 2)
    assert (first["trainer"]["max_epochs"], first["data"]["batch_size"]) == (5, 40)
    assert chosen == ["experiment", "out", "forcefield", "trainer.max_epochs", "seed"]
    assert (second["data"]["stores"], second["optimizer"]["lr"]) == (["a,b", "c=d"], 1e-3)
    assert (second["freeze"], second["start"], second["out"]) == (["encoder"], None, "runs/train")


def test_evaluation_writes_the_tables_of_the_command(tmp_path, capsys):
    assert main(["evaluate", "data.split=val", "baselines=[mmff94]", "resamples=50", f"out={tmp_path}/command"]) == 0
    result = espalike.evaluate(split="val", baselines=["mmff94"], resamples=50, out=tmp_path / "python")
    assert [row.method for row in result.rows] == ["mmff94"]
    assert repr(result).startswith(f"Evaluation in {tmp_path}/python")
    one, other = ((tmp_path / name / "table.csv").read_text() for name in ("command", "python"))
    assert one == other
    with pytest.raises(ValueError, match="nothing to score"):
        espalike.evaluate(out=tmp_path / "none")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"experiment": "quikstart"},
            "experiment=quikstart: did you mean 'quickstart'. choices of experiment: bespoke",
        ),
        ({"trainer": {"max_epoch": 1}}, "trainer.max_epoch: train has no such setting; nearest: trainer.max_epochs"),
        ({"seed": object()}, "seed: expected a number, text, path"),
        ({"config_dir": "nowhere"}, "config_dir=nowhere: no such folder"),
    ],
)
def test_unknown_settings_are_errors_that_list_the_known_ones(arguments, message):
    with pytest.raises(ValueError, match=message):
        espalike.train(**arguments)


def test_settings_of_a_folder_are_added(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 9\n")
    assert settings.compose("train", ["experiment=mine"], tmp_path)["seed"] == 9


@pytest.mark.parametrize(
    "value",
    ["CC(=O)O", "C[N+](C)(C)C", "[O-]C(=O)C[NH3+]", "C/C=C\\C", "runs/my run", "a,b", "a=b", 'say "x"', "it's", "x\\"],
)
def test_advice_on_quoting_is_read_as_typed(value):
    import shlex

    from hydra.core.override_parser.overrides_parser import OverridesParser

    (word,) = shlex.split(settings.quoted(f"input={value}"))
    (parsed,) = OverridesParser.create().parse_overrides([word])
    assert parsed.value() == value
    (word,) = shlex.split(settings.quoted(f"input=[{value},c1ccccc1]")) if "," not in value else ("input=[]",)
    (parsed,) = OverridesParser.create().parse_overrides([word])
    assert parsed.value() == ([value, "c1ccccc1"] if "," not in value else [])


def test_no_advice_on_the_quoting_of_mappings():
    assert settings.quoted("baselines=[{calculator: openmm-xml, files: a(b}]") is None


def test_moved_names_say_where_they_went():
    moved = importlib.import_module("espalike.types") if "espalike.types" in sys.modules else None
    with pytest.warns(DeprecationWarning, match="the next version has no espalike.types") as caught:
        moved = importlib.reload(moved) if moved else importlib.import_module("espalike.types")
    where = str(caught[0].message).partition("from: ")[2]
    listed = {}
    for module, names in re.findall(r"(espalike[.\w]+) \(([^)]*)\)", where):
        for name in names.replace("and ", "").split(", "):
            old, _, new = name.partition(" as ")
            listed[old] = getattr(importlib.import_module(module), new or old)
    assert listed == {name: getattr(moved, name) for name in moved.__all__}


def test_an_empty_folder_is_not_the_present_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="out is empty: expected a folder"):
        espalike.parametrize("CCO", "espalike-small", out="")
    assert not list(tmp_path.iterdir())
