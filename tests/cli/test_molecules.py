"""The molecules job: its list covers the sources, holds nothing excluded, and is read by `espalike label`."""

import csv
import json
import shlex
from collections import Counter
from pathlib import Path

import h5py
import pytest
from omegaconf import OmegaConf
from rdkit import Chem

from espalike.chem import connectivity_key, from_smiles, to_rdkit
from espalike.chem.environments import environments
from espalike.cli import molecules_input
from espalike.cli.label_input import read_jobs
from espalike.cli.main import main
from espalike.cli.molecules import HELP
from espalike.data.store import Store
from espalike.settings import compose

SMILES = {
    "phenol": "Oc1ccccc1",
    "anilide": "CC(=O)Nc1ccccc1",
    "ether": "COc1ccccc1",
    "ester": "CC(=O)OC",
    "acid": "CCC(=O)O",
    "amine": "CCN",
    "sulfonamide": "CNS(=O)(=O)c1ccccc1",
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.smi").write_text("".join(f"{smiles} {name}\n" for name, smiles in SMILES.items()))
    return tmp_path


def run(*arguments, status=0):
    assert main(["molecules", "recombine=50", "embed=false", "out=out.smi", *arguments]) == status
    with open("out.csv", newline="") as file:
        return list(csv.DictReader(file))


def report():
    return json.loads(Path("out.json").read_text())


def test_every_environment_of_the_sources_is_covered(folder):
    chosen = run("input=in.smi")
    lines = [line.split() for line in (folder / "out.smi").read_text().splitlines()]
    assert lines == [[row["smiles"], row["name"]] for row in chosen]
    assert len({row["name"] for row in chosen}) == len(chosen)
    counts = Counter()
    for smiles, _ in lines:
        counts.update(
            (kind, text) for kind, texts in environments(Chem.MolFromSmiles(smiles)).items() for text in texts
        )
    with open("out.patterns.csv", newline="") as file:
        patterns = {(row["kind"], row["smarts"]): row for row in csv.DictReader(file)}
    sources = {
        (kind, text) for s in SMILES.values() for kind, ts in environments(Chem.MolFromSmiles(s)).items() for text in ts
    }
    assert sources <= set(patterns)
    for pattern, row in patterns.items():
        assert counts[pattern] == int(row["after"])
        assert int(row["after"]) >= min(5, int(row["pool"]))
    everything = report()["coverage"][-1]
    assert everything["number"] == len(patterns)
    assert everything["after≥5"] == sum(counts[p] >= 5 for p in patterns)
    assert "CCC(=O)[O-]" in {row["smiles"] for row in chosen}
    assert "CC[NH3+]" in {row["smiles"] for row in chosen}
    assert report()["chosen"]["given"] == sum(row["what"] == "given" for row in chosen)


@pytest.mark.parametrize("name", ["input", "exclude", "before"])
def test_a_list_does_not_replace_what_is_read(folder, capsys, name):
    before = Path("in.smi").read_bytes()
    settings = {"input": "groups"} | {name: "in.smi"}
    assert main(["molecules", "out=./in.smi", *(f"{key}={value}" for key, value in settings.items())]) == 2
    assert f"would replace {name}=in.smi, which is read" in capsys.readouterr().err
    assert Path("in.smi").read_bytes() == before


def test_the_same_settings_give_the_same_list(folder):
    run("input=in.smi", "seed=3")
    first = (folder / "out.smi").read_bytes()
    run("input=in.smi", "seed=3", "workers=2")
    assert (folder / "out.smi").read_bytes() == first
    run("input=in.smi", "seed=4")
    assert (folder / "out.smi").read_bytes() != first


def write_hdf5(path, splits):
    with h5py.File(path, "w") as file:
        for name, split in splits.items():
            file.create_group(name).attrs.update(smiles=from_smiles(SMILES[name]).smiles, split=split)


def test_excluded_molecules_in_whatever_state_are_not_in_the_list(folder):
    (folder / "test.smi").write_text("CCC(=O)[O-]\nCOc1ccccc1 other-name\n")
    keys = {connectivity_key(from_smiles(smiles)) for smiles in ("CCC(=O)O", "COc1ccccc1")}
    assert keys & {row["key"] for row in run("input=in.smi")} == keys
    left = run("input=in.smi", "exclude=[test.smi]")
    assert not keys & {row["key"] for row in left}
    assert all(connectivity_key(from_smiles(row["smiles"])) == row["key"] for row in left)
    assert report()["rejected"]["excluded"] == 2


def test_lines_of_other_programs_are_read(folder):
    text = "\ufeffSMILES\tName\tMW\nCCC(=O)O\tacid\t74.1\nC[C@H](F)O |&1:1| mixture\n"
    (folder / "other.smi").write_text(text, encoding="utf-8")
    given = {row["name"] for row in run("input=other.smi") if row["what"] == "given"}
    assert given == {"acid", "mixture"}
    assert report()["rejected"]["unreadable"] == 0


def test_fragments_that_are_excluded_molecules_are_not_in_the_list(folder):
    (folder / "test.smi").write_text("Nc1ccccc1 aniline\n")
    assert "Nc1ccccc1" in {row["smiles"] for row in run("input=in.smi")}
    assert "Nc1ccccc1" not in {row["smiles"] for row in run("input=in.smi", "exclude=test.smi")}
    assert report()["rejected"]["excluded candidate"] >= 1


def test_splits_of_a_file(folder):
    write_hdf5("data.h5", {"phenol": "train", "ether": "test", "amine": "val"})
    chosen = run("input=data.h5", "split=[train]", "exclude=[data.h5]", "exclude_split=[test,val]", "before=data.h5")
    assert {row["smiles"] for row in chosen if row["what"] == "given"} == {"Oc1ccccc1"}
    kinds = {row["kind"]: row for row in report()["coverage"]}
    assert kinds["atom"]["before≥1"] == len(environments(Chem.MolFromSmiles("Oc1ccccc1"))["atom"])
    assert kinds["atom"]["before≥5"] == 0


def test_splits_are_never_misread(folder, capsys):
    """A split that matches nothing would exclude nothing. Texts may be bytes, and links lead out of the file."""
    write_hdf5("data.h5", {"phenol": b"train", "ether": b"test"})
    chosen = run("input=data.h5", "split=train")
    assert {row["smiles"] for row in chosen if row["what"] == "given"} == {"Oc1ccccc1"}
    assert main(["molecules", "input=in.smi", "exclude=data.h5", "exclude_split=tset", "out=o.smi"]) == 2
    assert "split 'tset' is unknown; known: train, val, test" in capsys.readouterr().err
    write_hdf5("data.h5", {"phenol": "validation"})
    assert main(["molecules", "input=in.smi", "exclude=data.h5", "exclude_split=val", "out=o.smi"]) == 2
    assert "data.h5, phenol: split 'validation' is unknown" in capsys.readouterr().err
    with h5py.File("linked.h5", "w") as file:
        file["phenol"] = h5py.ExternalLink("data.h5", "phenol")
    assert main(["molecules", "input=linked.h5", "out=o.smi"]) == 2
    assert "linked.h5" in capsys.readouterr().err


def test_a_store_is_read_and_extended(folder):
    write_hdf5("data.h5", {"phenol": "train"})
    sample = {connectivity_key(record.molecule) for record in Store.open("sample").records()}
    chosen = run("input=[in.smi,sample]", "before=sample", "extend=true", "limit=20", "needed=1")
    assert not sample & {row["key"] for row in chosen}
    new = run("input=[in.smi,sample]", "limit=20", "needed=1")
    assert len(chosen) < len(new)
    assert sample & {row["key"] for row in new}


def test_broken_molecules_are_counted_and_the_rest_goes_on(folder):
    with open("in.smi", "a") as file:
        file.write("C1CC broken\n[Na+].CC(=O)[O-] salt\n[Au]C gold\nCCCCCCCCCCCCCCCCCCC long\nCCN twice\n# remark\n")
    chosen = run("input=in.smi", status=1)
    assert "salt" in {row["name"] for row in chosen}
    rejected = report()["rejected"]
    assert (rejected["unreadable"], rejected["not supported"], rejected["too many atoms"]) == (1, 1, 1)
    assert rejected["again"] == 1


def test_an_sdf_is_read(folder):
    with Chem.SDWriter("in.sdf") as writer:
        for name in ("phenol", "acid"):
            mol = Chem.MolFromSmiles(SMILES[name])
            mol.SetProp("_Name", name)
            writer.write(mol)
    assert {"phenol", "acid"} <= {row["name"] for row in run("input=in.sdf")}


def test_limits_hold():
    for row in run("input=in.smi", "recipe.limits.atoms=14", "recipe.limits.charge=0", "most=6"):
        molecule = from_smiles(row["smiles"])
        assert molecule.n_atoms == int(row["atoms"]) <= 14
        assert molecule.net_charge == 0


def test_at_most_so_many_molecules():
    assert len(run("input=in.smi", "most=4")) <= 4


def test_molecules_without_coordinates_are_left_out(folder):
    with open("in.smi", "a") as file:
        file.write("[C@H]12CC[C@@H](CC1)C2 impossible\n")
    assert "impossible" not in {row["name"] for row in run("input=in.smi", "embed=true")}
    assert report()["rejected"]["candidate without coordinates"] == 1
    assert "impossible" in {row["name"] for row in run("input=in.smi")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["input=nothing.smi"], "nothing.smi: no such file"),
        (["input=nonsense"], "collections are rdkit, groups, minidrugbank"),
        (["input=in.smi", "out=list.txt"], "list.txt: expected a file name that ends in .smi"),
        (["input=in.smi", "cost=money"], "cost=money: expected atoms or molecules"),
        (["input=in.smi", "needed=0"], "needed=0: expected a number, 1 or more"),
        (["input=in.smi", "exclude=in.smi"], "no molecule to choose from"),
        (["input=in.smi", "exclude=empty.smi"], "exclude=empty.smi: no molecule to exclude"),
        (["input=in.csv"], "in.csv: unknown kind of file"),
    ],
)
def test_bad_settings(arguments, message, folder, capsys):
    (folder / "empty.smi").write_text("# nothing\n")
    assert main(["molecules", "out=out.smi", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "out.smi").exists()


def test_a_group_without_smiles_is_named(capsys):
    with h5py.File("bad.h5", "w") as file:
        file.create_group("water").attrs["charge"] = 0
    assert main(["molecules", "input=bad.h5", "out=out.smi"]) == 2
    assert "bad.h5, water: no attribute smiles" in capsys.readouterr().err


def test_a_collection_that_is_not_installed_names_its_package(monkeypatch, capsys):
    lacking = molecules_input.Collection(("nowhere/molecules.smi",), "MIT", "some-package")
    monkeypatch.setitem(molecules_input.COLLECTIONS, "lacking", lacking)
    assert main(["molecules", "input=lacking", "out=out.smi"]) == 2
    assert "it comes with the package some-package" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["groups", *molecules_input.GROUPED["rdkit"]])
def test_collections_can_be_read(name):
    named = list(molecules_input.read_source(name))
    readable = [smiles for _, smiles in named[:200] if smiles and Chem.MolFromSmiles(smiles) is not None]
    assert len(named) > 40
    assert len(readable) >= 0.97 * min(len(named), 200)
    assert len({label for label, _ in named}) == len(named)


@pytest.mark.parametrize(("name", "number"), [("minidrugbank", 371), ("freesolv", 643)])
def test_collections_of_openff(name, number):
    try:
        named = list(molecules_input.read_source(name))
    except ValueError as error:
        pytest.skip(str(error))
    assert len(named) == number
    assert sum(bool(smiles) for _, smiles in named) > 0.94 * number


def test_label_reads_the_list(folder):
    chosen = run("input=in.smi")
    settings = OmegaConf.create(compose("label", ["input=out.smi", "out=labels"]))
    rejected, messages = Counter(), []
    jobs = read_jobs(settings, rejected, messages)
    assert [(job.name, Chem.CanonSmiles(Chem.MolToSmiles(Chem.RemoveHs(to_rdkit(job.molecule))))) for job in jobs] == [
        (row["name"], row["smiles"]) for row in chosen
    ]
    assert not rejected
    assert not messages


def test_the_first_example_of_the_help_works_as_pasted(folder):
    example = next(line for line in HELP.splitlines() if line.startswith("  espalike molecules"))
    assert main(shlex.split(example)[1:]) == 0
    assert len((folder / "groups-cover.smi").read_text().splitlines()) > 80
