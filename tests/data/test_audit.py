"""Unit audits on data whose units are known, read wrongly on purpose."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from espalike import units
from espalike.chem.embedding import embed
from espalike.data.audit import ATOM_ENERGIES, Audit, atom_energies
from espalike.data.readers.hdf5 import Hdf5Reader
from espalike.data.store import Store, write_store

SMILES = ("C", "CC", "CCC", "CO", "CCO", "C=O", "N", "CN", "CC(=O)N", "O", "CC#N", "CO[H]", "OCCO", "C=C")
SHARED = Path(__file__).parents[3] / "shared" / "data" / "openff_torsiondrives_forces.h5"


def well(record, k=300.0, step=0.03, n=12):
    """A trajectory in a harmonic well about a geometry, its energy that of a total energy [kcal/mol]."""
    rng = np.random.default_rng(len(record.molecule.smiles))
    x0 = record.conformers.xyz[0]
    d = np.cumsum(rng.normal(0, step, (n, *x0.shape)), axis=0)
    total = 1.004 * units.HARTREE * sum(ATOM_ENERGIES[z] for z in record.molecule.numbers.tolist())
    energy = total + 0.5 * k * (d**2).sum(axis=(1, 2))
    return replace(record, conformers=replace(record.conformers, xyz=x0 + d, energy=energy, forces=-k * d))


@pytest.fixture(scope="module")
def trajectories():
    from tests.data.conftest import build_record

    return [well(build_record(smiles, 1)) for smiles in SMILES]


def verdicts(records, change=lambda conformers: {}):
    audit = Audit()
    for record in records:
        audit.add(replace(record, conformers=replace(record.conformers, **change(record.conformers))))
    return {verdict.audit: verdict for verdict in audit.verdicts()}


def test_correct_units_pass(trajectories):
    result = verdicts(trajectories)
    assert [result[name].outcome for name in ("forces", "energies")] == ["passed", "passed"]
    assert "slope of ΔE on -F·Δx is 1 " in result["forces"].message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: {"forces": -c.forces}, "gradients, −forces, were read as forces"),
        (
            lambda c: {"forces": c.forces / (units.HARTREE / units.BOHR)},
            "forces in hartree/bohr read as kcal/mol/angstrom",
        ),
        (lambda c: {"forces": c.forces * units.BOHR}, "wrong unit"),
        (lambda c: {"forces": c.forces * units.KJ_PER_KCAL}, "forces in kJ/mol/angstrom read as kcal/mol/angstrom"),
        (lambda c: {"forces": -c.forces / units.HARTREE}, "opposite sign"),
        (lambda c: {"xyz": c.xyz[:1] + (c.xyz - c.xyz[:1]) * units.BOHR}, "coordinates"),
        (lambda c: {"energy": c.energy / units.HARTREE}, "units of forces, energies and coordinates"),
        (lambda c: {"forces": c.forces * 6.0}, "coordinates are wrong"),
    ],
)
def test_wrong_forces_fail(trajectories, change, message):
    result = verdicts(trajectories, change)["forces"]
    assert result.outcome == "failed"
    assert message in result.message


@pytest.mark.parametrize(
    ("true", "read"),
    [("hartree", "eV"), ("hartree", "kcal/mol"), ("eV", "kcal/mol"), ("hartree", "kJ/mol"), ("kJ/mol", "kcal/mol")],
)
def test_energies_read_in_another_unit_fail(trajectories, true, read):
    factor = units.factor(read) / units.factor(true)
    result = verdicts(trajectories, lambda c: {"energy": c.energy * factor, "forces": None})
    assert result["energies"].outcome == "failed"
    assert f"look like {true} read as {read}" in result["energies"].message
    assert result["forces"].outcome == "skipped"


def test_a_few_molecules_in_another_unit_fail_too(trajectories):
    def change(conformers):
        nonlocal count
        count += 1
        return {"energy": conformers.energy / units.HARTREE} if count == 5 else {}

    count = 0
    result = verdicts(trajectories, change)["energies"]
    assert result.outcome == "failed"
    assert "1 of 14 molecules have energies that look like hartree read as kcal/mol" in result.message
    assert "CCO-0" in result.message


@pytest.mark.parametrize(
    "change",
    [
        lambda c: {"energy": c.energy - c.energy.min()},  # relative
        lambda c: {"energy": c.energy * 0.081},  # no core electrons
        lambda c: {"energy": np.full(len(c.energy), np.nan)},
    ],
)
def test_energies_of_another_zero_are_left_alone(trajectories, change):
    assert verdicts(trajectories, change).get("energies") is None or (
        verdicts(trajectories, change)["energies"].outcome == "skipped"
    )


def test_too_few_data_give_no_verdict(trajectories):
    result = verdicts([replace(t, conformers=t.conformers.take(np.arange(12) < 2)) for t in trajectories[:1]])
    assert result.pop("sign").outcome == "warning"
    assert {v.outcome for v in result.values()} <= {"skipped", "warning"}
    assert "1 pairs of geometries within 0.4 Å, 2 are needed" in result["forces"].message


def test_noise_is_refused(trajectories):
    rng = np.random.default_rng(0)
    result = verdicts(trajectories, lambda c: {"forces": rng.normal(0, 20, c.forces.shape)})["forces"]
    assert result.outcome == "failed"
    assert "not the energies of these geometries" in result.message


def test_atom_energies_are_those_of_the_sum(trajectories):
    audit = Audit()
    atomic = {"H": -0.6, "C": -38.1, "N": -54.8, "O": -75.2}
    numbers = {1: "H", 6: "C", 7: "N", 8: "O"}
    for record in trajectories:
        e = units.HARTREE * sum(atomic[numbers[z]] for z in record.molecule.numbers.tolist())
        audit.add(replace(record, conformers=replace(record.conformers, energy=np.full(12, e))))
    (sums,) = audit.state().values()
    result = atom_energies(sums["normal"])
    assert result == pytest.approx(atomic, abs=1e-6)
    assert atom_energies({"6 6": 4.0, "6 1": 8.0, "1 6": 8.0, "1 1": 16.0, "6 E": 1.0, "1 E": 2.0}) == {}


def test_goes_on_from_its_state(trajectories):
    whole, first = Audit(), Audit()
    for record in trajectories:
        whole.add(record)
    for record in trajectories[:5]:
        first.add(record)
    second = Audit(json.loads(json.dumps(first.state())))
    for record in trajectories[5:]:
        second.add(record)
    assert second.state() == whole.state()
    assert second.verdicts() == whole.verdicts()


def test_levels_and_sources_are_apart(trajectories):
    audit = Audit()
    for record in trajectories:
        audit.add(record)
        low = replace(record.conformers, level="GFN2-xTB", energy=record.conformers.energy * 0.08)
        audit.add(replace(record, conformers=low))
    assert {v.where: v.outcome for v in audit.verdicts() if v.audit == "energies"} == {
        "made-up, B3LYP-D3BJ/DZVP": "passed",
        "made-up, GFN2-xTB": "skipped",
    }


@pytest.mark.parametrize("number", [1, 6, 7, 8])
def test_atoms_as_pyscf_has_them(number):
    """Hartree-Fock in a small basis is within 1 % of the exact energies."""
    gto, scf = pytest.importorskip("pyscf.gto"), pytest.importorskip("pyscf.scf")
    spin = {1: 1, 6: 2, 7: 3, 8: 2}[number]
    atom = gto.M(atom=[[number, (0, 0, 0)]], basis="def2-svp", spin=spin, verbose=0)
    assert scf.UHF(atom).run().e_tot == pytest.approx(ATOM_ENERGIES[number], rel=0.01)


def test_the_sample_and_the_shared_scans_pass():
    audit = Audit()
    for record in Store.open("sample").records():
        audit.add(record)
    assert {v.audit: v.outcome for v in audit.verdicts()}["energies"] == "passed"
    if not SHARED.exists():
        pytest.skip("the shared data are not here")
    audit = Audit()
    for k, record in enumerate(Hdf5Reader(SHARED)):
        if k % 8 == 0:
            audit.add(record)
    outcomes = {v.audit: v.outcome for v in audit.verdicts()}  # their geometries are relaxed
    assert outcomes == {"forces": "passed", "energies": "passed", "bonds": "skipped", "spread": "passed"}


def test_forces_that_no_audit_can_judge_are_not_verified(trajectories):
    """Relaxed geometries, far from each other: negated forces are as good."""
    relaxed = [replace(r, conformers=r.conformers.take(np.array([0]))) for r in trajectories]
    relaxed = [replace(r, conformers=replace(r.conformers, xyz=embed(r.molecule, 1))) for r in relaxed]
    small = {"forces": np.full((1, 1, 3), 0.01)}
    for sign in (1.0, -1.0):
        result = verdicts(relaxed, lambda c: {"forces": sign * small["forces"] + np.zeros_like(c.xyz)})  # noqa: B023
        assert result["sign"].outcome == "warning"
        assert "forces or gradients" in result["sign"].message
    assert "sign" not in verdicts(relaxed, lambda c: {"forces": None})
    assert "sign" not in verdicts(trajectories)


def test_entries_of_one_geometry_of_the_same_molecule(tmp_path):
    from espalike.data.alone import judge_entries
    from tests.data.conftest import MANIFEST, build_record

    several = [build_record("CO", 1, seed=k) for k in range(4)] + [build_record("CC", 1, seed=k) for k in range(2)]
    others = [
        build_record("CCO", 1, kind="relaxed"),
        build_record("CCO", 1, kind="thermal", id="another kind"),
        build_record("N", 1),
        build_record("O", 3),
        build_record("O", 1, seed=1),
    ]
    store = write_store(tmp_path / "store", [*several, *others], manifest=MANIFEST)
    (verdict,) = judge_entries([store.table])
    assert (verdict.audit, verdict.outcome) == ("entries", "failed")
    assert "6 entries of one geometry are of 2 molecules" in verdict.message
    assert judge_entries([store.table.slice(6)]) == []


def test_few_entries_of_one_geometry_are_a_warning(tmp_path):
    """Filters may leave one geometry of two entries of a molecule."""
    from espalike.data.alone import judge_entries
    from tests.data.conftest import MANIFEST, build_record

    records = [build_record("CO", 1, seed=k) for k in range(2)] + [build_record("CCO", 19, seed=2)]
    (verdict,) = judge_entries([write_store(tmp_path / "store", records, manifest=MANIFEST).table])
    assert verdict.outcome == "warning"


def test_entries_of_one_geometry_with_their_atoms_in_another_order(tmp_path):
    from espalike.data.alone import judge_entries
    from tests.data.conftest import MANIFEST, build_record

    records = [
        build_record(smiles, 1, seed=k, id=str(k), key="") for k, smiles in enumerate(["CCO", "OCC", "C(O)C", "COC"])
    ]
    (verdict,) = judge_entries([write_store(tmp_path / "store", records, manifest=MANIFEST).table])
    assert "3 entries of one geometry are of 1 molecule" in verdict.message
