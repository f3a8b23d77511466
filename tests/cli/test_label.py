"""The label job: a store comes out, bad input is counted, a killed run goes on without loss or repetition."""

import json
import shlex

import h5py
import numpy as np
import pytest

from espalike.chem import connectivity_key
from espalike.cli.label import HELP
from espalike.cli.main import main
from espalike.data.split import hash_split
from espalike.data.store import Store
from espalike.qm import compute
from espalike.qm.mmff import MMFFCalculator
from espalike.qm.models import EnsembleCalculator
from espalike.qm.sampling.torsions import measured
from espalike.qm.xtb import XTBCalculator
from tests.pools import here

CHEAP = ["calculator@sampler.calculator=mmff94", "sampler.frames=3", "sampler.starts=1"]


@pytest.fixture(autouse=True)
def in_this_process(request, monkeypatch):
    """Except for the test of two workers."""
    if request.node.name != "test_one_bad_molecule_among_good_ones":
        monkeypatch.setattr(compute, "pool", here)


def test_one_bad_molecule_among_good_ones(tmp_path, capsys):
    (tmp_path / "some.smi").write_text("O water\nC1CC broken\nCO methanol\n[Na+] sodium\n")
    (tmp_path / "splits.csv").write_text("name,split\nwater,train\nmethanol,test\n")
    out = tmp_path / "store"
    arguments = [f"input={tmp_path}/some.smi", f"splits={tmp_path}/splits.csv", f"out={out}", "workers=2"]
    assert main(["label", "calculator=gfn2-xtb", *arguments, *CHEAP]) == 1
    assert "broken" in capsys.readouterr().err
    store = Store.open(out)
    assert store.manifest["rejected"] == {"unreadable": 1}
    assert store.manifest["levels"] == ["GFN2-xTB"]
    assert "calculator=gfn2-xtb" in store.manifest["command"]
    records = {record.id: record for record in store.records()}
    assert {name: record.split for name, record in records.items()} == {
        "water-relaxed": "train",
        "water-thermal": "train",
        "methanol-relaxed": "test",
        "methanol-thermal": "test",
        # not listed: by its connectivity
        "sodium-relaxed": hash_split(connectivity_key(records["sodium-relaxed"].molecule)),
    }
    assert len(records["methanol-thermal"].conformers.xyz) == 2
    assert len(records["sodium-relaxed"].conformers.xyz) == 1
    methanol = records["methanol-thermal"]
    energy, forces = XTBCalculator(accuracy=0.01)(methanol.molecule, methanol.conformers.xyz[1])
    assert methanol.conformers.energy[1] == pytest.approx(energy, abs=1e-3)
    np.testing.assert_allclose(methanol.conformers.forces[1], forces, atol=0.02)


def test_shares_of_splits(tmp_path):
    (tmp_path / "some.smi").write_text("".join(f"{'C' * n} m{n}\n" for n in range(1, 9)))
    (tmp_path / "splits.csv").write_text("name,split\nm3,test\n")
    given = [f"input={tmp_path}/some.smi", f"splits={tmp_path}/splits.csv", "calculator=mmff94", "sampler=etkdg"]
    shares = {"train": 0.5, "val": 0.5, "test": 0.0}
    assert (
        main(["label", *given, f"out={tmp_path}/store", "sampler.frames=1", "fractions={train:0.5,val:0.5,test:0}"])
        == 0
    )
    by_molecule = {record.id.split("-")[0]: record for record in Store.open(tmp_path / "store").records()}
    expected = {name: hash_split(record.key, fractions=shares) for name, record in by_molecule.items()} | {"m3": "test"}
    assert {name: record.split for name, record in by_molecule.items()} == expected
    assert set(expected.values()) == {"train", "val", "test"}
    assert main(["label", *given, f"out={tmp_path}/wrong", "fractions={train:0.5,val:0.2,test:0.2}"]) == 2


def test_stored_geometries_start_the_dynamics_and_splits_are_kept(tmp_path):
    smiles = "[C:1]([O:2][H:6])([H:3])([H:4])[H:5]"
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.attrs["units"] = "coords Angstrom; energies kcal/mol; forces kcal/mol/Angstrom"
        file.attrs["level_of_theory"] = "B3LYP-D3BJ/DZVP"
        from espalike.chem import embed, from_smiles

        xyz = embed(from_smiles(smiles), 2, seed=1)
        for name, split in (("a", "train"), ("b", "test")):
            group = file.create_group(name)
            group.attrs.update(smiles=smiles if name == "a" else smiles.replace("O", "S"), charge=0, split=split)
            group["atomic_numbers"] = np.array([6, 8 if name == "a" else 16, 1, 1, 1, 1])
            group["coords"] = xyz.astype(np.float32)
    arguments = ["calculator=mmff94", f"input={tmp_path}/in.h5", "split=[train,val]", f"out={tmp_path}/store"]
    assert main(["label", *arguments, *CHEAP, "sampler.minimise=0"]) == 0
    (record,) = Store.open(tmp_path / "store").records()
    assert record.split == "train"
    np.testing.assert_allclose(record.conformers.xyz[0], xyz[0], atol=1e-5)
    assert record.conformers.energy[2] == pytest.approx(
        MMFFCalculator()(record.molecule, record.conformers.xyz[2])[0], abs=1e-3
    )


def test_several_samplers_make_one_store(tmp_path, capsys):
    (tmp_path / "some.smi").write_text("CCO ethanol\nCO methanol\n")
    (tmp_path / "scans.csv").write_text("name,dihedral\nethanol,0 1 2 8\nethanal,0 1 2 3\n")
    arguments = [f"input={tmp_path}/some.smi", f"out={tmp_path}/store", "calculator=gfn2-xtb", "sampler=mixed"]
    arguments += ["calculator@sampler.calculator=mmff94", "+sampler@sampler.parts.scan=scan"]
    parts = ["thermal.frames=3", "thermal.starts=1", "distort.frames=2", "distort.starts=1"]
    parts += ["scan.spacing=120", f"scan.dihedrals={tmp_path}/scans.csv"]
    assert main(["label", *arguments, *(f"sampler.parts.{part}" for part in parts)]) == 0
    assert "scans.csv: not in the input: ethanal" in capsys.readouterr().err
    store = Store.open(tmp_path / "store")
    records = {record.id: record for record in store.records()}
    assert {name: len(record.conformers.xyz) for name, record in records.items()} == {
        "ethanol-relaxed": 1, "ethanol-thermal": 2, "ethanol-distorted": 2, "methanol-relaxed": 1,
        "methanol-thermal": 2, "methanol-distorted": 2, "ethanol-scan-0-1-2-8": 3,
    }  # fmt: skip
    assert {record.kind for record in records.values()} == {"relaxed", "thermal", "distorted", "scan"}
    assert all(record.kind in name for name, record in records.items())
    scan = records["ethanol-scan-0-1-2-8"]
    assert scan.dihedral.tolist() == [0, 1, 2, 8]
    assert records["ethanol-thermal"].dihedral is None
    assert scan.split == records["ethanol-thermal"].split
    np.testing.assert_allclose(
        [measured(xyz, (0, 1, 2, 8)) % 360 for xyz in scan.conformers.xyz], [300, 60, 180], atol=0.1
    )
    for record in records.values():
        energy, forces = XTBCalculator(accuracy=0.01)(record.molecule, record.conformers.xyz[-1])
        assert record.conformers.energy[-1] == pytest.approx(energy, abs=1e-3)
        np.testing.assert_allclose(record.conformers.forces[-1], forces, atol=0.02)
    assert store.manifest["geometries"]["scan"].startswith("Scan on MMFF94")
    thermal = (tmp_path / "store" / "labels" / "thermal" / "settings.json").read_text()
    alone = [f"input={tmp_path}/some.smi", f"out={tmp_path}/alone", "calculator=gfn2-xtb", f"labels={tmp_path}/moved"]
    alone += ["calculator@sampler.calculator=mmff94", "sampler.frames=3", "sampler.starts=1"]
    (tmp_path / "store" / "labels" / "thermal").rename(tmp_path / "moved")  # a part is what the sampler alone makes
    assert main(["label", *alone]) == 0
    assert (tmp_path / "moved" / "settings.json").read_text() == thermal
    assert Store.open(tmp_path / "alone").manifest["conformers"] == 6


def test_a_molecule_without_torsions_is_counted(tmp_path, capsys):
    arguments = ["calculator=mmff94", "calculator@sampler.calculator=mmff94", "input=[CO,OO]", f"out={tmp_path}/store"]
    arguments += ["sampler=scan", "sampler.spacing=180"]
    assert main(["label", *arguments]) == 1
    assert "no bond matches" in capsys.readouterr().err
    assert Store.open(tmp_path / "store").manifest["rejected"] == {"nothing to sample": 1}


@pytest.mark.slow
def test_the_examples_of_the_help_work_as_pasted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = HELP.replace("\\\n", " ").splitlines()
    examples = [shlex.split(line)[1:] for line in lines if line.strip().startswith("espalike label")]
    cheap = [words for words in examples if "calculator=pyscf" not in words and "compute=qcfractal" not in words]
    assert len(cheap) >= 10
    for words in cheap:
        assert main(words) == 0, words
        (out,) = (word.partition("=")[2] for word in words if word.startswith("out="))
        assert len(Store.open(out)), words


def test_labels_on_which_an_ensemble_disagrees_are_left_out(tmp_path, capsys):
    arguments = ["input=CCO", f"out={tmp_path}/store", "calculator@sampler.calculator=mmff94", "sampler.frames=6"]
    arguments += ["sampler.starts=1"]
    ensemble = ["calculator=ensemble", "calculator.models=[espalike-small,espalike-class2]"]
    assert main(["label", *arguments, *ensemble]) == 0
    relaxed, everything = sorted(Store.open(tmp_path / "store").records(), key=lambda record: record.id)
    calculator = EnsembleCalculator(["espalike-small", "espalike-class2"])
    labels = calculator.labels(everything.molecule, everything.conformers.xyz)
    worst = np.array([label.disagreement.max() for label in labels])
    assert calculator.labels(relaxed.molecule, relaxed.conformers.xyz)[0].disagreement.max() < worst.min()
    limit = np.sort(worst)[[1, 2]].mean()
    assert main(["label", *arguments, *ensemble, f"disagreement={limit}"]) == 1
    store = Store.open(tmp_path / "store")
    assert store.manifest["rejected"] == {"label: members disagree": 3}
    _, record = sorted(store.records(), key=lambda record: record.id)
    np.testing.assert_array_equal(record.conformers.xyz, everything.conformers.xyz[worst < limit])
    capsys.readouterr()
    other = [*arguments[:1], f"out={tmp_path}/other", *arguments[2:], "calculator=mmff94", "disagreement=5"]
    assert main(["label", *other]) == 2
    assert "MMFF94 is not an ensemble" in capsys.readouterr().err


def test_labels_of_other_settings_are_not_mixed(tmp_path, capsys):
    (tmp_path / "store" / "labels").mkdir(parents=True)
    (tmp_path / "store" / "labels" / "settings.json").write_text(json.dumps({"calculator": {}, "sampler": {}}))
    assert main(["label", "calculator=mmff94", "input=CCO", f"out={tmp_path}/store"]) == 2
    assert "other settings" in capsys.readouterr().err


def test_a_program_that_is_not_installed_leaves_nothing_behind(tmp_path, capsys):
    calculator = ["calculator=qcengine", "calculator.program=nosuch", "calculator.method=hf", "calculator.basis=sto-3g"]
    rest = ["calculator@sampler.calculator=mmff94", "input=CCO", f"out={tmp_path}/store"]
    assert main(["label", *calculator, *rest]) == 2
    assert "no program 'nosuch'" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_nothing_to_do_is_an_error(tmp_path, capsys):
    assert main(["label", "calculator=mmff94", "input=C1CC", f"out={tmp_path}/store"]) == 2
    assert "no molecule to label" in capsys.readouterr().err
    assert main(["label", "calculator=mmff94", f"input={tmp_path}/none.smi", f"out={tmp_path}/store"]) == 2
    assert "none.smi" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_brackets_of_a_smiles_are_not_a_list(tmp_path, capsys):
    settings = [f"out={tmp_path}", "calculator=mmff94", "calculator@sampler.calculator=mmff94"]
    assert main(["label", "input=[NH4+]", *settings]) == 2
    assert """write 'input="[NH4+]"'""" in capsys.readouterr().err
    assert main(["label", "input=[C1CC]", *settings]) == 2
    assert "brackets make a list" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("split=[train,vall]", "split: 'vall' is unknown; known: train, val, test"),
        ("splits=x.csv", "x.csv: ethane: split 'trian' is unknown"),
        ("esp=null", "esp=null: expected a number"),
        ("workers=null", "workers=null: expected a number"),
    ],
)
def test_settings_that_would_be_ignored_are_refused_before_the_work(given, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.smi").write_text("CC ethane\n")
    (tmp_path / "x.csv").write_text("name,split\nethane,trian\n")
    assert main(["label", "calculator=mmff94", "sampler=etkdg", "input=x.smi", "out=out", given]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
