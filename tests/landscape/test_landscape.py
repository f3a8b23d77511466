"""The landscape: errors are those of `evaluate`, costs are positive, and the page stands alone."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from rdkit.Chem import rdMolTransforms

from espalike.chem import embed, from_smiles, to_rdkit
from espalike.chem.conformers import Conformers
from espalike.cli.main import main
from espalike.data.schema import Record
from espalike.data.store import write_store
from espalike.evaluation.table import Result, Scores
from espalike.landscape import columns
from espalike.landscape.cost import FORCE_FIELD, ML, QM, SEMI_EMPIRICAL, cost
from espalike.landscape.plane import Point, draw, front
from espalike.qm.base import batched
from espalike.qm.mmff import MMFFCalculator
from tests.test_page import CHROMIUM, in_browser

MANIFEST = {"licence": "CC0", "origin": "tests", "command": "pytest"}


def record(smiles, name, xyz, kind, dihedral=None):
    """Labels by MMFF94."""
    molecule = from_smiles(smiles, name)
    energy, forces = batched(MMFFCalculator(), molecule, xyz)
    made = Conformers(xyz=xyz, energy=energy, forces=forces, level="MMFF94", source="made")
    return Record(name, molecule, made, "test", kind=kind, dihedral=dihedral)


def shaken(smiles, count, seed=0):
    molecule = from_smiles(smiles)
    return embed(molecule, 1)[0] + np.random.default_rng(seed).normal(0, 0.03, (count, molecule.n_atoms, 3))


def scan(smiles, atoms):
    mol = to_rdkit(from_smiles(smiles), embed(from_smiles(smiles), 1)[0])
    geometries = []
    for angle in range(-150, 181, 30):
        rdMolTransforms.SetDihedralDeg(mol.GetConformer(), *atoms, float(angle))
        geometries.append(mol.GetConformer().GetPositions())
    return np.array(geometries)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("landscape") / "store"
    records = [
        record("CCO", "ethanol", shaken("CCO", 4), "thermal"),
        record("CC(=O)N", "acetamide", shaken("CC(=O)N", 4), "thermal"),
        record("CCO", "ethanol-relaxed", shaken("CCO", 1), "relaxed"),
        record("CCCC", "butane-scan", scan("CCCC", (0, 1, 2, 3)), "scan", np.array([0, 1, 2, 3])),
    ]
    write_store(path, records, manifest=MANIFEST)
    return path


def test_the_command(store, tmp_path, capsys):
    out = tmp_path / "out"
    methods = "methods=[espalike-small,mmff94,espalike-none]"
    settings = ["geometries=1", "resamples=20", "rounds=1", f"data.path={store}", f"out={out}"]
    assert main(["landscape", methods, *settings]) == 2
    assert "espalike-none" in capsys.readouterr().err
    assert main(["landscape", "methods=[espalike-small,mmff94]", "labels=gfn2-xtb", *settings]) == 0
    printed = capsys.readouterr().out
    assert "cost at 52 atoms" in printed
    with open(out / "table.csv", newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert float(rows["mmff94"]["force_rmse"]) == pytest.approx(0.0, abs=1e-3)
    assert float(rows["espalike-small"]["force_rmse"]) > 1.0
    assert all(float(row[f"ms_{n}"]) > 0 for row in rows.values() for n in (22, 52, 102))
    data = json.loads((out / "landscape.json").read_text())
    assert data["geometries"]["mmff94"]["molecules"] == 1
    assert data["groups"]["amide, urea"].keys() == {"espalike-small", "mmff94"}
    assert data["profiles"]["mmff94"]["energy RMSE"] == pytest.approx(0.0, abs=1e-3)
    assert data["profiles"]["espalike-small"]["energy RMSE"] > 0.05
    for name in ("plane.png", "plane.svg"):
        assert (out / name).stat().st_size > 5000
    page = (out / "report.html").read_text()
    assert "gfn2-xtb (the labels)" in (out / "plane.svg").read_text() or "gfn2-xtb" in printed
    assert page.count("Largest errors of") == 2
    if CHROMIUM:
        assert in_browser(out / "report.html")[1] == []


def test_a_metric_that_does_not_exist(capsys):
    assert main(["landscape", "metric=force"]) == 2
    assert "expected force_rmse or energy_rmse" in capsys.readouterr().err


def test_kinds_and_costs():
    small = cost("espalike-small", 1, sizes=(4,))
    assert small.kind == FORCE_FIELD
    assert small.parametrize > 0
    xtb = cost("gfn2-xtb", 1, sizes=(1,))
    assert (xtb.kind, xtb.parametrize) == (SEMI_EMPIRICAL, None)
    assert xtb.ms[22] > small.ms[52]


def test_the_front():
    points = [
        Point("a", FORCE_FIELD, 1.0, 9.0, 8.0, 10.0),
        Point("worse and dearer", FORCE_FIELD, 2.0, 9.5, 9.0, 10.0),
        Point("b", ML, 10.0, 3.0, 2.0, 4.0),
        Point("c", QM, 1000.0, 0.0, 0.0, 0.0),
    ]
    assert [point.method for point in front(points[::-1])] == ["a", "b", "c"]
    axes = draw(points, "energy_rmse", "title").axes[0]
    assert {text.get_text() for text in axes.texts} == {point.method for point in points}
    assert axes.get_ylabel() == "energy RMSE [kcal/mol]"


def test_profiles_of_a_shifted_curve():
    """A profile with a barrier that is 2 kcal/mol too high and a minimum 60° away."""
    entry = record("CCCC", "butane", scan("CCCC", (0, 1, 2, 3)), "scan", np.array([0, 1, 2, 3]))
    angles = np.radians(np.arange(-150, 181, 30))
    reference, found = -np.cos(angles) * 2.0, -np.cos(angles - np.pi / 3) * 3.0
    entry = replace(entry, conformers=replace(entry.conformers, energy=reference))
    forces = np.zeros_like(entry.conformers.xyz)
    scores = Scores((entry,), {"method": {entry.id: Result(found, forces)}}, ())
    found_columns = columns.profiles(scores)["method"]
    assert found_columns["barrier error"] == pytest.approx(2.0)
    assert found_columns["minimum off by"] == pytest.approx(60.0, abs=1e-6)
    assert found_columns["energy RMSE"] == pytest.approx(np.sqrt(np.mean((found - reference) ** 2)))
    assert columns.profiles(Scores((replace(entry, dihedral=None),), scores.results, ())) == {}


def test_minimised_geometries_are_compared():
    """Minimisation with the method that made the geometry moves nothing; another method moves bonds."""
    from espalike.qm.sampling.minimise import minimised

    molecule = from_smiles("CC(=O)N", "acetamide")
    xyz = minimised(MMFFCalculator(), molecule, embed(molecule, 1)[0], 500)[None]
    entry = record("CC(=O)N", "acetamide", xyz, "relaxed")
    ticks = []
    moved = columns.geometries(
        [entry], {name: name for name in ("mmff94", "espalike-small")}, 5, lambda: ticks.append(1)
    )
    assert len(ticks) == 2
    assert moved["mmff94"]["RMSD"] < 0.02
    assert moved["mmff94"]["bonds"] < 1e-3
    assert moved["mmff94"]["angles"] < 0.3
    assert moved["espalike-small"]["bonds"] > 2e-3


@pytest.mark.parametrize(
    ("smiles", "groups"),
    [
        ("CC", {"hydrocarbon"}),
        ("CCO", {"alcohol, phenol"}),
        ("COC", {"ether"}),
        ("CC(=O)OC", {"ester, acid"}),
        ("CC(=O)[O-]", {"ion"}),
        ("CC(=O)N", {"amide, urea"}),
        ("CN", {"amine"}),
        ("C[NH3+]", {"ion"}),
        ("c1ccncc1", {"heteroaromatic"}),
        ("C[N+](=O)[O-]", {"nitro, azide, N-oxide"}),
        ("CS(=O)(=O)C", {"sulfur"}),
        ("O", set()),
    ],
)
def test_functional_groups(smiles, groups):
    assert columns._groups(from_smiles(smiles)) == groups
