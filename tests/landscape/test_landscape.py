"""The landscape: errors are those of `evaluate`, costs are positive, and the page stands alone."""

import csv
import json
import os
from dataclasses import replace

import numpy as np
import pytest
from rdkit.Chem import rdMolTransforms

import espalike
from espalike.chem import embed, from_smiles, to_rdkit
from espalike.chem.conformers import Conformers, EspGrid
from espalike.cli.main import main
from espalike.data.schema import Record
from espalike.data.store import write_store
from espalike.evaluation.table import Result, Scores
from espalike.landscape import boxes, columns
from espalike.landscape.cost import FORCE_FIELD, HYBRID, ML, QM, SEMI_EMPIRICAL, _median, cost
from espalike.landscape.electrostatics import charges_of, electrostatics
from espalike.landscape.geometries import geometries
from espalike.landscape.hybrids import hybrid
from espalike.landscape.plane import Point, draw, front
from espalike.qm.base import batched
from espalike.qm.mmff import MMFFCalculator
from espalike.qm.sampling.minimise import minimised
from espalike.units import COULOMB
from tests.export.cases import field_model
from tests.test_page import CHROMIUM, opened

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


def minima():
    """Butane's trans and gauche minima of MMFF94."""
    molecule, geometries = from_smiles("CCCC"), scan("CCCC", (0, 1, 2, 3))
    return np.array([minimised(MMFFCalculator(), molecule, geometries[place], 500) for place in (11, 7)])


def with_dipole(entry):
    """With dipole moments of the charges of MMFF94."""
    charges = charges_of(MMFFCalculator(), entry.molecule)
    return replace(entry, conformers=replace(entry.conformers, dipole=charges @ entry.conformers.xyz))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("landscape") / "store"
    records = [
        record("CCO", "ethanol", shaken("CCO", 4), "thermal"),
        with_dipole(record("CC(=O)N", "acetamide", shaken("CC(=O)N", 4), "thermal")),
        record("CCCC", "butane-relaxed", minima(), "relaxed"),
        record("CCCC", "butane-scan", scan("CCCC", (0, 1, 2, 3)), "scan", np.array([0, 1, 2, 3])),
    ]
    write_store(path, records, manifest=MANIFEST)
    return path


def test_it_says_that_there_are_no_minima(tmp_path, capsys):
    """Geometries that are called relaxed, but on which the labels' level of theory has forces."""
    write_store(tmp_path / "store", [record("CCO", "ethanol", shaken("CCO", 4), "relaxed")], manifest=MANIFEST)
    settings = ["geometries=1", "resamples=20", "rounds=1", "water=[]", f"data.path={tmp_path / 'store'}"]
    assert main(["landscape", "methods=[mmff94,uff]", *settings, f"out={tmp_path / 'out'}"]) == 0
    assert "no geometry of the data is a minimum" in capsys.readouterr().out
    assert "no geometry of the data is a minimum" in (tmp_path / "out" / "report.html").read_text()


def test_the_command(store, tmp_path, capsys):
    out = tmp_path / "out"
    methods = "methods=[espalike-small,mmff94,espalike-none]"
    settings = ["geometries=1", "resamples=20", "rounds=1", "water=[]", f"data.path={store}", f"out={out}"]
    assert main(["landscape", methods, *settings]) == 2
    assert "espalike-none" in capsys.readouterr().err
    mixed = "espalike-small+mmff94@4fs"
    assert main(["landscape", f"methods=[espalike-small,{mixed}]", *settings]) == 2
    assert "add mmff94 to the methods" in capsys.readouterr().err
    methods = f"methods=[espalike-small,mmff94,so3lr,{mixed},espalike-small+so3lr@4fs]"
    assert main(["landscape", methods, "labels=gfn2-xtb", *settings]) == 0
    printed = capsys.readouterr().out
    assert "cost at 52 atoms" in printed
    assert "skipped espalike-small+so3lr@4fs, as so3lr is" in printed
    assert "skipped so3lr: its weights are a pickled Python object" in printed
    with open(out / "table.csv", newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert float(rows["mmff94"]["force_rmse"]) == pytest.approx(0.0, abs=1e-3)
    assert float(rows["espalike-small"]["force_rmse"]) > 1.0
    assert rows[mixed]["force_rmse"] == rows["mmff94"]["force_rmse"]
    assert all(float(row[f"ms_{n}"]) > 0 for row in rows.values() for n in (22, 52, 102))
    data = json.loads((out / "landscape.json").read_text())
    assert data["geometries"]["mmff94"]["molecules"] == 1
    assert data["geometries"]["mmff94"]["geometries"] == 2
    assert data["geometries"]["mmff94"]["ddE"] == pytest.approx(0.0, abs=1e-3)
    assert data["geometries"]["espalike-small"]["ddE"] > 0
    assert data["electrostatics"]["mmff94"] == pytest.approx({"molecules": 1, "dipole": 0.0}, abs=1e-6)
    assert data["electrostatics"]["espalike-small"]["dipole"] > 0.01
    assert data["groups"]["amide, urea"].keys() == {"espalike-small", "mmff94"}
    assert data["profiles"]["mmff94"]["energy RMSE"] == pytest.approx(0.0, abs=1e-3)
    assert data["profiles"]["espalike-small"]["energy RMSE"] > 0.05
    for name in ("plane.png", "plane.svg"):
        assert (out / name).stat().st_size > 5000
    page = (out / "report.html").read_text()
    assert "gfn2-xtb (the labels)" in (out / "plane.svg").read_text() or "gfn2-xtb" in printed
    assert page.count("Largest errors of") == 2
    if CHROMIUM:
        document, images = opened(out / "report.html")
        assert images > 2  # the plane, molecules
        for heading in ("Cost", "Torsion profiles", "Minimised from QM geometries", "Dipole moments"):
            assert f"<h2>{heading}" in document


def test_a_metric_that_does_not_exist(capsys):
    assert main(["landscape", "labels=nothing"]) == 2
    assert "labels=nothing: expected a calculator, pyscf for instance" in capsys.readouterr().err
    assert main(["landscape", "metric=force"]) == 2
    assert "expected force_rmse or energy_rmse" in capsys.readouterr().err


def test_kinds_and_costs():
    small = cost("espalike-small", 1, sizes=(4,))
    assert small.kind == FORCE_FIELD
    assert small.parametrize > 0
    xtb = cost("gfn2-xtb", 1, sizes=(1,))
    assert (xtb.kind, xtb.parametrize) == (SEMI_EMPIRICAL, None)
    assert xtb.ms[22] > 0
    assert small.ms[52] > 0


def test_a_median_of_seconds_per_call(monkeypatch):
    """The first call, which may be slower, does not count."""
    clock, calls = [0.0], []

    def call():
        clock[0] += 0.004 if calls else 5.0
        calls.append(clock[0])

    monkeypatch.setattr("espalike.landscape.cost._spent", lambda: clock[0])
    assert _median(call, 3) == pytest.approx(0.004)
    assert len(calls) == 1 + 1 + 4 + 3 * 16  # as often as it takes for at least 0.05 s


class Counting(MMFFCalculator):
    """A potential that counts how often it is computed."""

    calls = 0

    def __call__(self, molecule, xyz):
        Counting.calls += 1
        return super().__call__(molecule, xyz)


def calls_of(call, rounds):
    """Computations of the potential per call, where `cost` has seconds."""
    call()
    before = Counting.calls
    for _ in range(rounds):
        call()
    return (Counting.calls - before) / rounds


def test_the_cost_of_a_hybrid(monkeypatch):
    """The cost of an inner step: the potential is computed once per outer step, the more seldom the longer that is."""
    monkeypatch.setattr("espalike.landscape.cost._median", calls_of)
    monkeypatch.setattr("espalike.landscape.cost.potential", lambda name, molecule: Counting())
    alone, two, eight = (
        cost(name, 8, (1,)).ms[22] for name in ("mmff94", "espalike-1+mmff94@2fs", "espalike-1+mmff94@8fs")
    )
    assert (alone, two, eight) == (1000, 500, 125)
    in_water = cost("espalike-1+mmff94@4fs", 8, (4,), water=(1000,))
    assert in_water.kind == HYBRID
    assert in_water.ms[52] == 250
    assert list(in_water.water.values()) == [250]


@pytest.mark.parametrize("name", ["espalike-1", "espalike-1+aimnet2", "+aimnet2@4fs", "espalike-1+aimnet2@4.5fs"])
def test_names_that_are_no_hybrids(name):
    assert hybrid(name) is None


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system cannot keep a thread on one core")
def test_a_cost_is_measured_on_one_core(monkeypatch):
    before, seen = os.sched_getaffinity(0), []
    monkeypatch.setattr("espalike.landscape.cost._median", lambda *_: seen.append(os.sched_getaffinity(0)) or 1.0)
    cost("mmff94", 1, (1,))
    assert seen
    assert all(len(cores) == 1 for cores in seen)
    assert os.sched_getaffinity(0) == before
    with pytest.raises(FileNotFoundError):
        cost("no-such-model", 1, (1,))
    assert os.sched_getaffinity(0) == before


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


def test_each_name_is_nearest_to_its_own_point():
    """Two methods of nearly the same cost and error, as class II with and without 1-4 interactions."""
    points = [
        Point("below", "force field", 0.237, 4.8, 4.2, 5.5),
        Point("above", "force field", 0.252, 5.15, 4.4, 5.9),
        Point("far", "force field", 0.1, 20.0, 17.0, 24.0),
    ]
    figure = draw(points, "force_rmse", "")
    figure.draw_without_rendering()
    (axes,) = figure.axes
    marks = {p.method: axes.transData.transform((p.ms, p.error)) for p in points}
    names = {text.get_text(): text.get_window_extent() for text in axes.texts}
    for name, box in names.items():
        corners = np.array([[x, y] for x in np.linspace(box.x0, box.x1, 20) for y in np.linspace(box.y0, box.y1, 5)])
        apart = {method: np.linalg.norm(corners - mark, axis=1).min() for method, mark in marks.items()}
        assert min(apart, key=apart.get) == name


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
    unnamed = Scores((replace(entry, dihedral=None),), scores.results, ())
    assert columns.profiles(unnamed) == columns.profiles(scores)  # its angles tell
    assert columns.profiles(Scores((replace(entry, dihedral=None, kind="thermal"),), scores.results, ())) == {}


def test_the_driven_torsion():
    entry = record("CCCC", "butane", scan("CCCC", (0, 1, 2, 3)), "scan")
    assert sorted(columns.driven(entry)) == [0, 1, 2, 3]
    assert columns.driven(record("CCO", "ethanol", shaken("CCO", 8), "")) is None


def test_minimised_geometries_are_compared():
    """Minimisation with the method that made the geometry moves nothing; another method moves bonds."""
    molecule = from_smiles("CC(=O)N", "acetamide")
    xyz = minimised(MMFFCalculator(), molecule, embed(molecule, 1)[0], 500)[None]
    entry = record("CC(=O)N", "acetamide", xyz, "relaxed")
    ticks = []
    moved = geometries([entry], {name: name for name in ("mmff94", "espalike-small")}, 5, lambda: ticks.append(1))
    assert len(ticks) == 2
    assert moved["mmff94"]["rmsd"] < 0.02
    assert moved["mmff94"]["bonds"] < 1e-3
    assert moved["mmff94"]["angles"] < 0.3
    assert moved["espalike-small"]["bonds"] > 2e-3
    forces = np.zeros_like(xyz)
    forces[0, 0, 0] = 3.0
    pulled = replace(entry, conformers=replace(entry.conformers, forces=forces))
    assert geometries([pulled], {"mmff94": "mmff94"}, 5) == {}  # relaxed by another method than that of the labels


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


def test_energies_of_minima_are_relative_to_the_lowest():
    """ddE of two minima whose reference energies are 2 kcal/mol further apart than the method's."""
    entry = record("CCCC", "butane", minima(), "relaxed")
    energies = entry.conformers.energy + np.array([0.0, 2.0])
    entry = replace(entry, conformers=replace(entry.conformers, energy=energies[::-1], xyz=entry.conformers.xyz[::-1]))
    found = geometries([entry], {"mmff94": "mmff94"}, 1)["mmff94"]
    assert found["ddE"] == pytest.approx(2.0, abs=0.01)
    assert (found["molecules"], found["geometries"]) == (1, 2)
    assert np.isnan(geometries([entry], {"mmff94": "mmff94"}, 1, conformers=1)["mmff94"]["ddE"])


def test_torsions_that_turn():
    """Butane's gauche minimum of a calculator that only knows trans: the torsion turns, and TFD says so."""
    from espalike.landscape.geometries import _moved

    class Trans:
        level = "trans"

        def __call__(self, molecule, xyz):
            return 0.5 * float(((xyz - target) ** 2).sum()) * 50, -50 * (xyz - target)

    molecule = from_smiles("CCCC", "butane")
    geometry = scan("CCCC", (0, 1, 2, 3))
    target = geometry[-1]
    moved = _moved(molecule, geometry[5], Trans())  # from 0 to 180 degrees
    assert moved.torsions == pytest.approx(180.0, abs=1.0)
    assert moved.tfd == pytest.approx(1.0, abs=0.01)
    assert np.isnan(_moved(from_smiles("C", "methane"), embed(from_smiles("C"), 1)[0], MMFFCalculator()).tfd)


def test_dipole_moments_and_potentials_of_charges():
    """The potential of MMFF94's own charges has no error; that of none has an error of its own size."""
    entry = with_dipole(record("CC(=O)N", "acetamide", shaken("CC(=O)N", 2), "thermal"))
    xyz, charges = entry.conformers.xyz[0], charges_of(MMFFCalculator(), entry.molecule)
    points = xyz.mean(0) + 6.0 * np.random.default_rng(0).normal(size=(40, 3))
    points = points[np.linalg.norm(points[:, None] - xyz, axis=2).min(1) > 2.0]
    values = COULOMB * (charges / np.linalg.norm(points[:, None] - xyz, axis=2)).sum(1)
    grid = EspGrid(points, values, np.array([len(points), 0]))
    entry = replace(entry, conformers=replace(entry.conformers, esp=grid))
    methods = {name: name for name in ("mmff94", "espalike-small", "gfn2-xtb", "uff")}
    found = electrostatics([entry], methods)
    assert found.keys() == {"mmff94", "espalike-small", "gfn2-xtb"}
    assert found["mmff94"] == pytest.approx({"molecules": 1, "dipole": 0, "ESP": 0, "ESP, relative": 0}, abs=1e-6)
    assert 0.01 < found["espalike-small"]["ESP, relative"] < 1.0
    assert found["gfn2-xtb"].keys() == {"molecules", "dipole"}
    assert found["gfn2-xtb"]["dipole"] < 2.0


def test_steps_in_water():
    """Energies of the system in water are those of the peptide and water far apart, where no pair interacts."""
    import openmm

    of = boxes.box(1000)
    assert 700 < len(of.xyz) < 1100
    molecule = boxes.peptide(4)
    system = espalike.export.to_openmm(espalike.load("espalike-small").parametrize(molecule))
    made = boxes.within(system, of)
    assert made.getNumConstraints() == len(of.xyz) - of.solute
    (pairs,) = [force for force in made.getForces() if isinstance(force, openmm.NonbondedForce)]
    assert sum(pairs.getParticleParameters(i)[0]._value for i in range(len(of.xyz))) == pytest.approx(0, abs=1e-6)
    assert boxes.within(espalike.export.to_openmm(field_model("dexp").parametrize(molecule)), of) is None
    measured = cost("espalike-small", 1, sizes=(4,), water=(1000,))
    (atoms,) = measured.water
    assert atoms == len(of.xyz)
    assert measured.water[atoms] > 0
