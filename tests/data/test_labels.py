"""Audits of independent geometries: right data pass, whatever their kind; wrong signs and units are refused."""

import re
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from espalike import units
from espalike.chem.conformers import Conformers
from espalike.chem.embedding import embed
from espalike.chem.molecule import Molecule
from espalike.data.audit import Audit, AuditError, counts_of
from espalike.data.ingest import run
from espalike.data.readers.hdf5 import Hdf5Reader
from espalike.data.schema import Record, Rejection
from espalike.data.store import Store
from espalike.qm.mmff import MMFFCalculator
from tests.data.ingest_job import job

SHARED = Path(__file__).parents[3] / "shared" / "data"
UNITS = "coords angstrom; energies kcal/mol; forces kcal/mol/angstrom"
SMILES = ("CCO", "CC(=O)N", "c1ccccc1O", "CCCN", "CS", "OCC=O", "CC(C)C#N")


@pytest.fixture(scope="module")
def displaced():
    """Independent geometries of a few molecules with the labels of MMFF94s, in relative energies."""
    calculator, rng, made = MMFFCalculator("MMFF94s"), np.random.default_rng(4), []
    for smiles in SMILES:
        molecule = Molecule.from_smiles(smiles)
        xyz = embed(molecule, 5)
        xyz = xyz + rng.normal(0, 0.04, xyz.shape) + rng.normal(0, 5, (len(xyz), 1, 3))
        labels = [calculator(molecule, frame) for frame in xyz]
        energy = np.array([energy for energy, _ in labels])
        forces = np.stack([forces for _, forces in labels])
        made.append(Record(smiles, molecule, Conformers(xyz, energy - energy.min(), forces, "MMFF94s", "made")))
    return made


def outcomes(records, change=lambda conformers: {}):
    audit = Audit()
    for record in records:
        audit.add(replace(record, conformers=replace(record.conformers, **change(record.conformers))))
    return {verdict.audit: verdict for verdict in audit.verdicts()}


def test_right_data_pass(displaced):
    found = outcomes(displaced)
    assert {name: verdict.outcome for name, verdict in found.items()} == {
        "forces": "passed",  # once they are laid on each other
        "energies": "skipped",  # energies are relative
        "bonds": "passed",
        "spread": "passed",
    }


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (-1.0, "gradients, −forces, were read as forces"),
        (units.BOHR / units.HARTREE, "such as hartree/bohr read as kcal/mol/angstrom"),
        (1.0 / units.factor("eV"), "such as eV/angstrom read as kcal/mol/angstrom"),
        (units.KJ_PER_KCAL, "such as kJ/mol/angstrom read as kcal/mol/angstrom"),
        (1.0 / units.BOHR, "in another unit"),
        (-units.BOHR, "opposite sign"),
    ],
)
@pytest.mark.parametrize("geometries", ["several", "one"])
def test_wrong_forces_fail(displaced, factor, message, geometries):
    records = displaced
    if geometries == "one":  # per entry, as many sets of displaced geometries have them
        masks = [np.arange(5) == k for k in range(5)]
        records = [replace(r, conformers=r.conformers.take(mask)) for r in displaced for mask in masks]
    verdict = outcomes(records, lambda c: {"forces": factor * c.forces})["bonds"]
    assert verdict.outcome == "failed"
    assert message in verdict.message


@pytest.mark.parametrize(
    ("true", "read"),
    [("hartree", "eV"), ("eV", "hartree"), ("hartree", "kcal/mol"), ("kJ/mol", "kcal/mol"), ("kcal/mol", "kJ/mol")],
)
def test_relative_energies_in_another_unit_fail(displaced, true, read):
    factor = units.factor(read) / units.factor(true)
    verdict = outcomes(displaced, lambda c: {"energy": factor * c.energy, "forces": None})["spread"]
    assert verdict.outcome == "failed"
    assert f"such as {true} read as {read}" in verdict.message


def test_energies_of_the_opposite_sign_fail(displaced):
    verdict = outcomes(displaced, lambda c: {"energy": -c.energy, "forces": None})["spread"]
    assert (verdict.outcome, "opposite sign" in verdict.message) == ("failed", True)


@pytest.mark.parametrize("geometries", [2, 3])
def test_entries_of_few_geometries_are_judged_together(displaced, geometries):
    """Relative energies of two or three geometries; one entry alone would have no correlation."""
    picked = [np.isin(np.arange(5), (np.arange(geometries) + k) % 5) for k in range(3)]
    records = [replace(r, conformers=r.conformers.take(mask)) for r in displaced for mask in picked]
    assert outcomes(records)["spread"].outcome == "passed"
    opposite = outcomes(records, lambda c: {"energy": -c.energy})["spread"]
    assert (opposite.outcome, "opposite sign" in opposite.message) == ("failed", True)
    for factor in (units.KJ_PER_KCAL, 1.0 / units.HARTREE, units.HARTREE):
        verdict = outcomes(records, lambda c: {"energy": factor * c.energy})["spread"]  # noqa: B023
        assert verdict.outcome == "failed"


@pytest.mark.parametrize("geometries", [1, 2, 3])
def test_gradients_of_two_molecules_fail(displaced, geometries):
    chosen = np.arange(5) < geometries
    records = [replace(r, conformers=r.conformers.take(chosen)) for r in displaced if r.id in ("CC(C)C#N", "CCCN")]
    assert outcomes(records)["bonds"].outcome == "passed"
    verdict = outcomes(records, lambda c: {"forces": -c.forces})["bonds"]
    assert (verdict.outcome, "gradients" in verdict.message) == ("failed", True)


def rolled(values):
    return np.roll(values, 1, axis=0)


def one_in(n, values):
    """-1 for one in so many geometries, else 1."""
    return np.where(np.arange(len(values)) % n, 1.0, -1.0)[:, None, None]


UNRELATED = {
    "energies of other geometries": lambda c: {"energy": rolled(c.energy)},
    "equal energies": lambda c: {"energy": np.full_like(c.energy, -100.0)},
    "energies of two levels": lambda c: {"energy": c.energy + 6.0 * c.xyz.shape[1] * (np.arange(len(c.energy)) % 2)},
    "energies of two programs": lambda c: {"energy": c.energy + 1e4 * (np.arange(len(c.energy)) % 2)},
    "forces of other geometries": lambda c: {"forces": rolled(c.forces)},
    "forces of other atoms": lambda c: {"forces": c.forces[:, ::-1]},
    "forces along other axes": lambda c: {"forces": c.forces[:, :, [1, 2, 0]]},
    "forces of the mirror image": lambda c: {"forces": c.forces * [1.0, 1.0, -1.0]},
    "magnitudes of forces": lambda c: {"forces": np.abs(c.forces)},
    "no forces": lambda c: {"forces": np.zeros_like(c.forces)},
    "one third gradients": lambda c: {"forces": c.forces * one_in(3, c.forces)},
}


@pytest.mark.parametrize("change", UNRELATED.values(), ids=UNRELATED)
@pytest.mark.parametrize("kind", ["thermal", "distorted"])
def test_labels_of_other_geometries_fail(kind, change):
    """Of two geometries, as of the distorted ones, those of the other one have the opposite sign."""
    records = [r for r in Store.open("sample").records() if r.kind == kind and r.molecule.n_atoms > 5][:60]
    assert "failed" not in {verdict.outcome for verdict in seen(records).values()}
    found = seen(records, change)
    assert [
        v.message for v in found.values() if v.outcome == "failed" and re.search("are not the |opposite", v.message)
    ], found


def seen(records, change=lambda conformers: {}):
    """The verdicts, with those on geometries that filters leave out."""
    audit = Audit()
    for record in records:
        changed = replace(record, conformers=replace(record.conformers, **change(record.conformers)))
        audit.see(counts_of(changed))
        audit.add(changed)
    return {verdict.audit: verdict for verdict in audit.verdicts()}


def pairs_of(records, n, rng):
    """So many entries of two geometries each."""
    chosen = [records[i] for i in rng.integers(0, len(records), n)]
    return [
        replace(record, conformers=record.conformers.take(np.sort(rng.choice(len(record.conformers.xyz), 2, False))))
        for record in chosen
    ]


@pytest.mark.parametrize("kind", ["thermal", "distorted", "scan"])
def test_few_entries_of_dft_data_are_never_refused(kind):
    """And the opposite sign of displaced geometries is refused from two entries of two geometries on."""
    rng = np.random.default_rng(5)
    records = [r for r in Store.open("sample").records() if r.kind == kind and len(r.conformers.xyz) > 1][:60]
    for n in (2, 3, 5, 10):
        few = pairs_of(records, n, rng)
        right, wrong = outcomes(few), outcomes(few, lambda c: {"forces": -c.forces})
        assert "failed" not in {verdict.outcome for verdict in right.values()}, right
        if kind != "scan":
            assert "failed" in {verdict.outcome for verdict in wrong.values()}, wrong


@pytest.mark.parametrize(
    ("factor", "n", "outcome", "message"),
    [
        (1.0, 2, "passed", "likeness"),
        (-1.0, 2, "failed", "−forces, were read as forces"),
        (-1.0, 1, "skipped", "1 pairs of geometries within 0.4 Å, 2 are needed"),
        (units.HARTREE, 5, "failed", "kcal/mol/angstrom read as hartree/angstrom"),
        (units.HARTREE, 4, "skipped", "hardly related"),
        (1.0 / units.HARTREE, 5, "failed", "forces or energies are in another unit"),
        (3.9, 5, "failed", "another unit"),
    ],
)
def test_pairs_of_molecules_without_hydrogen(factor, n, outcome, message):
    """Only the changes of energy say something about their forces."""
    calculator, rng, records = MMFFCalculator("MMFF94s"), np.random.default_rng(2), []
    for i, smiles in enumerate(["ClC(Cl)=C(Cl)Cl", "FC(F)(F)C(F)(F)F", "N#CC#N", "O=C=O", "ClC#CCl"][:n]):
        molecule = Molecule.from_smiles(smiles)
        xyz = np.repeat(embed(molecule, 1), 2, axis=0)
        xyz = xyz + rng.normal(0, 0.05, xyz.shape)
        labels = [calculator(molecule, frame) for frame in xyz]
        energy = np.array([energy for energy, _ in labels])
        forces = factor * np.stack([forces for _, forces in labels])
        records.append(Record(str(i), molecule, Conformers(xyz, energy, forces, "MMFF94s", "made")))
    verdict = outcomes(records)["forces"]
    assert verdict.outcome == outcome, verdict
    assert message in verdict.message


def test_energies_that_nothing_verifies_are_a_warning(displaced):
    (first, *_) = displaced
    assert outcomes([first], lambda c: {"forces": None})["unit"].outcome == "warning"
    assert "unit" not in outcomes(displaced)


@pytest.mark.parametrize("audit", ["error", "warn"])
def test_forces_of_most_geometries_above_the_ceiling_are_a_wrong_unit(displaced, tmp_path, audit):
    """As kJ/mol/nm read as kcal/mol/Å: a filter would leave out most of them, and the rest would be stored."""
    path = tmp_path / "a.h5"
    largest = np.concatenate([np.abs(r.conformers.forces).max((1, 2)) for r in displaced])
    factor = 500.0 / np.quantile(largest, 0.4)
    with h5py.File(path, "w") as file:
        for r in displaced:
            group = file.create_group(r.id.replace("/", "|"))
            group.attrs["smiles"] = r.molecule.smiles
            group["atomic_numbers"] = r.molecule.numbers
            group["coords"], group["energies"] = r.conformers.xyz, r.conformers.energy
            group["forces"] = r.conformers.forces * factor
        file.attrs.update(units=UNITS, license="MIT", source="made up", level_of_theory="MMFF94s")
    made = job(path, tmp_path / "store", audit=audit, reference=None)
    if audit == "error":
        with pytest.raises(AuditError, match="a force above 500 kcal/mol/Å"):
            run(made)
        return
    (verdict,) = [v for v in run(made).verdicts if v.audit == "size"]
    assert verdict.outcome == "failed"


@pytest.mark.parametrize("change", ["forces", "energies"])
def test_an_ingest_refuses_them_by_the_name_of_their_source(displaced, tmp_path, change):
    wrong = [
        replace(
            record,
            conformers=replace(record.conformers, forces=-record.conformers.forces)
            if change == "forces"
            else replace(record.conformers, energy=record.conformers.energy / 27.2114, forces=None),
        )
        for record in displaced
    ]
    path = tmp_path / "wrong.h5"
    with h5py.File(path, "w") as file:
        file.attrs.update(units=UNITS, license="MIT", source="made up", level_of_theory="MMFF94s")
        for record in wrong:
            group, conf = file.create_group(record.id), record.conformers
            group.attrs["smiles"] = record.molecule.smiles
            group["atomic_numbers"], group["coords"], group["energies"] = record.molecule.numbers, conf.xyz, conf.energy
            if conf.forces is not None:
                group["forces"] = conf.forces
    with pytest.raises(AuditError, match=r"wrong, .*audit=warn"):
        run(job(path, tmp_path / "store", reference=None))
    assert not (tmp_path / "store" / "manifest.json").exists()
    kept = run(job(path, tmp_path / "store", reference=None, audit="warn"))
    assert "failed" in {verdict["outcome"] for verdict in kept.store.manifest["audits"]}


@pytest.mark.parametrize(
    ("file", "every", "passed"),
    [
        ("hutchison_conformers.h5", 8, {"spread"}),
        ("pepconf.h5", 8, {"spread"}),
        ("rmd17_2k.h5", 1, {"bonds", "spread", "energies"}),
        ("botnet_3bpa_methanol.h5", 1, {"bonds"}),
    ],
)
def test_public_data_pass(file, every, passed):
    if not (SHARED / file).exists():
        pytest.skip("the shared data are not here")
    records = [r for k, r in enumerate(Hdf5Reader(SHARED / file, level="any")) if k % every == 0]
    audit = Audit()
    for record in records:
        assert not isinstance(record, Rejection)
        chosen = np.arange(len(record.conformers.xyz)) % (20 if every == 1 else 1) == 0
        audit.add(replace(record, conformers=record.conformers.take(chosen)))
    found = {verdict.audit: verdict.outcome for verdict in audit.verdicts()}
    assert "failed" not in found.values()
    assert {name for name, outcome in found.items() if outcome == "passed"} >= passed
