"""The Python face: what `import espalike` offers, and that it does what the commands do."""

import copy
import doctest
import importlib
import importlib.util
import inspect
import pickle
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from rdkit import Chem

import espalike
from espalike import api, settings
from espalike.chem import embed, from_rdkit, to_rdkit
from espalike.cli.main import main
from espalike.energy import energy
from espalike.terms.bond import MorseBond
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


def test_molecules_of_rdkit_keep_order_and_coordinates(tmp_path):
    """As those of a file: a conformer in space is written, zeros are not."""
    mol = Chem.MolFromMolBlock(geometry("C[C@H](F)O"), removeHs=False)
    mol = Chem.RenumberAtoms(mol, np.random.default_rng(1).permutation(mol.GetNumAtoms()).tolist())
    xyz = mol.GetConformer().GetPositions()
    espalike.parametrize([mol], out=tmp_path / "mol")
    back = Chem.MolFromMolFile(str(next((tmp_path / "mol").glob("*.sdf"))), removeHs=False)
    assert [atom.GetSymbol() for atom in back.GetAtoms()] == [atom.GetSymbol() for atom in mol.GetAtoms()]
    np.testing.assert_allclose(back.GetConformer().GetPositions(), xyz, atol=1e-4)
    system, expected = espalike.parametrize(mol), espalike.load().parametrize(from_rdkit(mol))
    assert system.molecules[0].smiles == expected.molecules[0].smiles
    assert system.molecules[0].name == Chem.CanonSmiles("C[C@H](F)O")
    for one, other in zip(system.terms, expected.terms, strict=True):
        np.testing.assert_allclose(one.values, other.values, rtol=1e-12)
    mol.GetConformer().SetPositions(0.0 * xyz)
    with pytest.warns(UserWarning, match="coordinates of the input are not used"):
        espalike.parametrize(mol)
    with pytest.raises(ValueError, match=r"^2 of 3 molecules failed:\nmolecule_of_3_atoms: hydrogens are missing"):
        espalike.parametrize(["O", Chem.MolFromSmiles("CCO"), Chem.Mol()])


@pytest.mark.skipif(importlib.util.find_spec("openff") is None, reason="needs the extra openff")
def test_molecules_of_openff_keep_charges_and_coordinates(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the toolkit's own
        from openff.toolkit import Molecule
        from openff.units import Quantity

        theirs = Molecule.from_smiles("O")
        theirs.add_conformer(Quantity(np.array([[0, 0, 0], [0.096, 0, 0], [-0.024, 0.093, 0]]), "nanometer"))
        theirs.partial_charges = Quantity(np.array([-0.8, 0.4, 0.4]), "elementary_charge")
    system = espalike.parametrize(theirs, charges="input", out=tmp_path)
    np.testing.assert_allclose(system.bound("Coulomb").values[:, 0], [-0.8, 0.4, 0.4])
    written = Chem.MolFromMolFile(str(tmp_path / "O.sdf"), removeHs=False).GetConformer().GetPositions()
    np.testing.assert_allclose(written, [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], atol=1e-4)


@pytest.mark.parametrize(
    ("molecules", "message"),
    [
        (None, "got NoneType; RDKit returns None"),
        (["CCO", float("nan")], "molecule 2: expected a SMILES, a file, or an espalike, RDKit or OpenFF molecule"),
        ([["CCO"]], "got list"),
        ({"ethanol": "CCO"}, "expected a molecule or a list of molecules, got dict"),
        (b"CCO", "expected a molecule or a list of molecules, got bytes"),
    ],
)
def test_what_is_not_a_molecule_is_a_type_error(molecules, message):
    for function in (espalike.parametrize, espalike.bespoke):
        with pytest.raises(TypeError, match=message):
            function(molecules)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"format": "gromacs"}, ValueError, "format='gromacs' needs out=FOLDER: without it, no files are written"),
        ({"residue": "ETH"}, ValueError, "residue='ETH' needs out=FOLDER"),
        ({"torsions": "custom"}, ValueError, "torsions='custom' needs out=FOLDER"),
        ({"mixed": "lj", "out": "out"}, ValueError, "mixed=lj: belongs to format ffxml, got system"),
        (
            {"torsions": "custom", "format": "amber", "out": "out"},
            ValueError,
            "torsions=custom: belongs to format system",
        ),
        ({"mixed": "LJ", "out": "out"}, ValueError, "mixed='LJ': expected one of None, 'lj'"),
        ({"residue": 3, "out": "out"}, ValueError, "residue 3: expected one to four letters and digits"),
        ({"charges": [0.0] * 9}, TypeError, "charges: expected 'model', 'input', 'am1bcc' or a file, got list"),
        ({"model": None}, TypeError, "model: expected a name or a model file, got NoneType"),
    ],
)
def test_wrong_arguments_are_explained(arguments, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=re.escape(message)):
        espalike.parametrize("CCO", **arguments)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: espalike.Molecule("CCO"),
            TypeError,
            'missing 5 .*; Molecule.from_smiles\\("CCO"\\) and .* make molecules',
        ),
        (lambda: espalike.Store("sample"), TypeError, 'missing 2 .*; Store.open\\("sample"\\) opens a store'),
        (
            lambda: espalike.Store.open("sample").indices("tests"),
            ValueError,
            "'tests' is unknown; known: train, val, test",
        ),
        (lambda: espalike.Store.open("sample").array(0, "force"), KeyError, "no column 'force'; columns: id, .*forces"),
        (
            lambda: espalike.load()(_water()),
            TypeError,
            "takes a Batch, got Molecule; model.parametrize takes molecules",
        ),
        (lambda: espalike.load().parametrize(_water(), charges="input"), TypeError, "expected numbers, got 'input'"),
        (lambda: embed("O"), TypeError, "expected an espalike.Molecule, got str; Molecule.from_smiles, "),
        (lambda: to_rdkit("O"), TypeError, "expected an espalike.Molecule, got str"),
        (lambda: espalike.export.to_topology("O"), TypeError, "expected an espalike.Molecule, got str"),
        (lambda: energy(_water(), torch.zeros(1, 3, 3)), TypeError, "expected an MMSystem, .* got Molecule"),
        (lambda: espalike.label, AttributeError, "no attribute 'label'; .*`espalike --help` lists commands"),
        (
            lambda: espalike.parametrize("O").charges,
            AttributeError,
            "no attribute 'charges'; .*bound\\('Coulomb'\\).val",
        ),
        (
            lambda: espalike.bespoke("O", teacher=print),
            TypeError,
            "teacher: expected the name of a calculator, got bui",
        ),
        (lambda: espalike.bespoke("O", model=_water()), TypeError, "model: expected a name or a model file, got Molec"),
    ],
)
def test_first_tries_in_python_are_answered_with_what_works(call, error, message):
    with pytest.raises(error, match=message):
        call()


def _water():
    return espalike.Molecule.from_smiles("O")


def test_molecules_and_stores_keep_their_signatures_and_are_copied():
    assert list(inspect.signature(espalike.Molecule).parameters)[:2] == ["name", "smiles"]
    assert repr(pickle.loads(pickle.dumps(_water()))) == repr(copy.deepcopy(_water())) == repr(_water())
    store = espalike.Store.open("sample")
    assert pickle.loads(pickle.dumps(store)).hash == store.hash


def test_one_format_is_a_text_and_formats_are_listed_once():
    assert espalike.export.refusal([MorseBond()], "amber") == espalike.export.refusal([MorseBond()], ["amber"])
    assert espalike.export.formats_of(["gromacs,amber", " gromacs"]) == ("gromacs", "amber")
    with pytest.raises(ValueError, match="unknown format ','; known formats: system, "):
        espalike.export.formats_of(",")


def test_the_folder_of_a_training_is_not_a_model(tmp_path):
    Path(morse_model(tmp_path)).rename(tmp_path / "model.espalike")
    with pytest.raises(FileNotFoundError, match=r"is a folder: give the model file in it, .*model\.espalike"):
        espalike.load(tmp_path)


def test_formats_in_one_text_as_in_the_command(tmp_path):
    espalike.parametrize("O", out=tmp_path, format="gromacs, amber")
    suffixes = {".top", ".itp", ".gro", ".prmtop", ".inpcrd", ".sdf", ".pdb"}
    assert {path.suffix for path in tmp_path.iterdir()} == suffixes


def test_one_baseline_needs_no_list_and_objects_are_refused(tmp_path):
    scores = espalike.evaluate(baselines="zero", out=tmp_path)
    assert [row.method for row in scores.rows] == ["zero"]
    store = espalike.Store.open("sample")
    assert espalike.evaluate(data=store, baselines="zero", out=tmp_path / "store").rows == scores.rows
    for arguments, message in (
        ({"model": espalike.load()}, "model: expected a name or a path, or a list of them, got Ensemble"),
        ({"data": store.record(0)}, "data: expected a name or a path, or a list of them, got Record"),
    ):
        with pytest.raises(TypeError, match=message):
            espalike.evaluate(**arguments)
    with pytest.raises(ValueError, match=r"split 'testing' in sample; splits: train, val, test"):
        espalike.evaluate(baselines="zero", split="testing", out=tmp_path / "testing")


def test_only_a_system_is_exported(tmp_path):
    for wrong in ("CCO", [], espalike.load()):
        with pytest.raises(TypeError, match="expected an MMSystem, as `parametrize` returns it, got"):
            espalike.export.to_openmm(wrong)
    with pytest.raises(TypeError, match="expected an MMSystem, as `parametrize` returns it, got PosixPath"):
        espalike.export.write(tmp_path / "x.xml", espalike.parametrize("O"))


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
    ("listed", "file", "message"),
    [
        (
            "harmonic_angel",
            "",
            r"forcefield/mine.yaml: no term 'harmonic_angel'; did you mean 'harmonic_angle'\? choices",
        ),
        (
            "cubic",
            "_target_: mine.Cubic\n",
            "forcefield.term._target_: expected _target_; a file term/NAME.yaml has these lines:\nNAME:\n",
        ),
        ("cubic", "cubic: 3\n", "forcefield.term.cubic: expected _target_; a file"),
        ("harmonic_bond", "", "conv: expected _target_ and _partial_; a file conv/NAME.yaml has these lines:"),
    ],
)
def test_first_tries_at_a_form_are_answered(listed, file, message, tmp_path):
    for group, name, text in (
        ("term", "cubic", file),
        ("forcefield", "mine", f"defaults:\n  - /term: [coulomb, {listed}]\nname: mine\n"),
        ("conv", "mine", "_target_: espalike.nn.convs.SAGE\n"),
    ):
        (tmp_path / group).mkdir()
        (tmp_path / group / f"{name}.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        espalike.train("quickstart", tmp_path / "out", config_dir=tmp_path, forcefield="mine", conv="mine")


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
