"""The table: the entries that a method covers, and those that all cover; failures listed; published rows reproduced."""

import csv
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from espalike.chem import embed, from_smiles
from espalike.chem.conformers import Conformers
from espalike.data.schema import Record
from espalike.evaluation import plots, predictors, table
from espalike.evaluation.baselines import baseline
from espalike.model import from_config
from espalike.qm.mmff import MMFFCalculator

SHARED = Path(__file__).parents[3] / "shared" / "data"


def make_record(smiles, source="one", k=4, forces=True, energies=True):
    """A record whose reference is MMFF94 plus a known distortion."""
    molecule = from_smiles(smiles, name=smiles)
    rng = np.random.default_rng(len(smiles))
    xyz = embed(molecule, 1, seed=1) + rng.normal(0, 0.03, (k, molecule.n_atoms, 3))
    energy, force = predictors.from_calculator(MMFFCalculator())(
        Record(smiles, molecule, Conformers(xyz, np.zeros(k), None, "none", source))
    )
    distortion = np.arange(k) - np.arange(k).mean()
    conformers = Conformers(
        xyz,
        energy - 1e5 + distortion if energies else np.full(k, np.nan),
        force + 2.0 if forces else None,
        "MMFF94 distorted",
        source,
    )
    return Record(f"{source}/{smiles}", molecule, conformers, split="test", key=f"key-{smiles}")


def mmff(record):
    return predictors.from_calculator(MMFFCalculator())(record)


def fails_on_sulfur(record):
    if 16 in record.molecule.numbers:
        raise ValueError(f"{record.id}: no parameters for sulfur")
    return mmff(record)


@pytest.fixture(scope="module")
def records():
    return [make_record("CCO"), make_record("CCS"), make_record("CC=O", "two"), make_record("CCN", "two", forces=False)]


def test_known_distortion_is_what_is_measured(records):
    (row, *_) = table.table(table.predict(records[:2], {"mmff": mmff}), resamples=10)
    assert row.energy_rmse.value == pytest.approx(np.sqrt(1.25))
    assert row.energy_mae.value == pytest.approx(1.0)
    assert row.force_rmse.value == pytest.approx(2.0)
    assert (row.molecules, row.conformers, row.failed) == (2, 8, 0)


def test_zero_scores_the_spread_of_the_reference(records):
    (row,) = table.table(table.predict(records[:2], {"zero": predictors.zero}))
    spread = np.concatenate([r.conformers.energy - r.conformers.energy.mean() for r in records[:2]])
    forces = np.concatenate([r.conformers.forces.ravel() for r in records[:2]])
    assert row.energy_rmse.value == pytest.approx(np.sqrt(np.mean(spread**2)))
    assert row.force_rmse.value == pytest.approx(np.sqrt(np.mean(forces**2)))


def test_rows_per_source_and_overall(records):
    rows = table.table(table.predict(records, {"zero": predictors.zero, "mmff": mmff}), resamples=10)
    assert [(r.source, r.method) for r in rows] == [(s, m) for s in ("one", "two", "all") for m in ("zero", "mmff")]
    assert [r.conformers for r in rows] == [8, 8, 8, 8, 16, 16]


def test_a_method_that_fails_is_named_and_changes_no_other_row(records):
    scores = table.predict(records, {"mmff": mmff, "picky": fails_on_sulfur})
    (failure,) = scores.failures
    assert (failure.method, failure.entry) == ("picky", "one/CCS")
    assert "no parameters for sulfur" in failure.reason
    rows = table.table(scores, resamples=10)
    assert {r.method: (r.molecules, r.failed) for r in rows if r.source == "one"} == {"mmff": (2, 0), "picky": (1, 1)}
    assert {r.failed for r in rows if r.source == "two"} == {0}
    alone = table.table(table.predict(records, {"mmff": mmff}), resamples=10)
    assert [repr(r) for r in rows if r.method == "mmff"] == [repr(r) for r in alone]  # NaN: no interval


def test_common_rows_are_about_the_same_entries(records):
    scores = table.predict(records, {"mmff": mmff, "picky": fails_on_sulfur})
    assert not scores.complete
    rows = table.table(scores, resamples=10, common=True)
    assert {r.molecules for r in rows if r.source == "one"} == {1}
    overall = {r.method: r for r in rows if r.source == "all"}
    assert overall["mmff"].energy_rmse == overall["picky"].energy_rmse
    assert (overall["mmff"].failed, overall["picky"].failed) == (0, 1)


def test_methods_without_an_entry_in_common_have_no_common_rows(records):
    def only_sulfur(record):
        if 16 not in record.molecule.numbers:
            raise ValueError("no sulfur")
        return mmff(record)

    scores = table.predict(records, {"picky": fails_on_sulfur, "odd": only_sulfur})
    assert table.table(scores, 10, common=True) == []
    assert {r.method for r in table.table(scores, 10)} == {"picky", "odd"}
    assert {r.source for r in table.table(scores, 10) if r.method == "odd"} == {"one", "all"}


def test_a_method_that_always_fails_has_no_rows(records):
    def broken(record):
        raise RuntimeError("not installed")

    scores = table.predict(records, {"mmff": mmff, "broken": broken})
    assert scores.methods == ("mmff",)
    assert scores.complete
    assert scores.covered(*scores.methods) == tuple(records)
    with pytest.raises(ValueError, match="not installed"):
        table.table(table.predict(records, {"broken": broken}))


@pytest.mark.parametrize(
    ("energy", "forces", "message"),
    [
        (lambda r: np.full(4, np.nan), lambda r: np.zeros(r.conformers.xyz.shape), "not finite"),
        (lambda r: np.zeros(3), lambda r: np.zeros(r.conformers.xyz.shape), "shapes"),
    ],
)
def test_nonsense_predictions_are_failures(records, energy, forces, message):
    scores = table.predict(records[:1], {"odd": lambda r: (energy(r), forces(r))})
    assert message in scores.failures[0].reason


def test_geometry_only_records_have_forces_but_no_energies():
    record = make_record("CCO", energies=False)
    (row,) = table.table(table.predict([record], {"mmff": mmff}), resamples=10)
    assert np.isnan(row.energy_rmse.value)
    assert row.force_rmse.value == pytest.approx(2.0)


def test_worst_is_sorted_and_readable(records):
    entries = table.worst(table.predict(records, {"zero": predictors.zero}), "zero", 3)
    assert len(entries) == 3
    assert sorted((w.energy_rmse for w in entries), reverse=True) == [w.energy_rmse for w in entries]
    assert entries[0].smiles in {"CCO", "CCS", "CC=O", "CCN"}


def test_csv_is_tidy(records, tmp_path):
    rows = table.table(table.predict([*records, make_record("CCF", "three", energies=False)], {"mmff": mmff}), 10)
    table.write_csv([table.flat(row) for row in rows], tmp_path / "table.csv")
    with (tmp_path / "table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["source"] for line in lines] == ["one", "three", "two", "all"]
    assert lines[1]["energy_rmse"] == ""
    assert float(lines[0]["force_rmse"]) == pytest.approx(2.0, abs=1e-4)
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_parity_picture_has_a_column_per_method(records, tmp_path):
    scores = table.predict(records, {"zero": predictors.zero, "mmff": mmff})
    panels = {}
    for method in scores.methods:
        panels[method] = (e_ref, e_pred), (f_ref, f_pred) = table.parity(scores, method)
        assert len(e_ref) == len(e_pred) == 16
        assert len(f_ref) == len(f_pred) == sum(r.conformers.xyz.size for r in records[:3])
    plots.parity(panels, tmp_path / "both.png")
    plots.parity({"mmff": (panels["mmff"][0], (np.empty(0), np.empty(0)))}, tmp_path / "energy.png")
    both, energy = (matplotlib.image.imread(tmp_path / f"{name}.png") for name in ("both", "energy"))
    assert both.shape[1] > 1.5 * energy.shape[1]
    assert both.shape[0] > 1.5 * energy.shape[0]
    assert both[..., :3].std() > 0.05  # not an empty page


def test_model_predicts_every_conformer_in_float64(records):
    model = from_config(
        {
            "terms": [
                {"_target_": "espalike.terms.bond.HarmonicBond"},
                {"_target_": "espalike.terms.angle.HarmonicAngle"},
            ],
            "conv": {"_target_": "espalike.nn.convs.SAGE", "_partial_": True},
            "width": 8,
            "layers": 2,
            "hidden": 8,
        }
    )
    predict = predictors.ForceField(model.parametrize)
    energy, forces = predict(records[0])
    assert energy.dtype == forces.dtype == np.float64
    step = np.zeros_like(records[0].conformers.xyz)
    step[:, 3, 1] = 1e-4
    moved = [
        replace(records[0], conformers=replace(records[0].conformers, xyz=records[0].conformers.xyz + sign * step))
        for sign in (1, -1)
    ]
    up, down = (predict(r)[0] for r in moved)
    assert -(up - down) / 2e-4 == pytest.approx(forces[:, 3, 1], abs=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared torsion drives")
def test_published_rows_of_the_baselines_are_reproduced():
    """Torsion drives, test split, 53 molecules, 1,392 conformers."""
    from espalike.evaluation.run import read_records

    data = {"path": str(SHARED / "openff_torsiondrives_forces.h5"), "split": "test", "level": None}
    records, rejected = read_records(data)
    assert not rejected
    expected = {"openff-2.2.1": (2.53, 14.73), "mmff94": (2.88, 10.75), "gfn2-xtb": (0.90, 7.01), "zero": (3.95, 2.70)}
    scores = table.predict(records, {name: baseline(name) for name in expected})
    rows = {row.method: row for row in table.table(scores)}
    assert not scores.failures
    for name, (energy, force) in expected.items():
        assert (rows[name].molecules, rows[name].conformers) == (53, 1392)
        assert rows[name].energy_rmse.value == pytest.approx(energy, abs=0.03)
        assert rows[name].force_rmse.value == pytest.approx(force, abs=0.1)


def test_molecules_are_counted_as_in_a_store():
    from espalike.data.store import Store

    store = Store.open("sample")
    scores = table.predict(list(store.records("test")), {"zero": predictors.zero})
    (row,) = table.table(scores, resamples=0)
    counts = store.counts["splits"]["test"]
    assert (row.molecules, row.conformers) == (counts["molecules"], counts["conformers"])
    assert counts["molecules"] > counts["connectivities"]
