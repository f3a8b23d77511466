"""Errors of interaction energies: two ways to the same energy, ranges of distances, failures, and `evaluate`."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from espalike import load
from espalike.batch import batch_of
from espalike.chem.complexes import joined, monomers
from espalike.cli.main import main
from espalike.data.store import write_store
from espalike.energy import energy
from espalike.evaluation import interactions, show
from espalike.evaluation.predictors import ForceField, from_calculator, zero
from espalike.qm.mmff import MMFFCalculator
from espalike.qm.models import ModelCalculator
from tests.data.conftest import build_record
from tests.data.test_complexes import MANIFEST, dimer
from tests.test_complexes import shuffled

SMALL = load("espalike-small")


def mixed():
    """Two molecules whose atoms take turns in the complex."""
    record = dimer("[O:2]([H:1])[H:4].[N:3]([H:5])([H:7])[H:6]", (3.5, 5.0), name="mixed")
    assert len(monomers(record.molecule)[0][1]) == 3
    return record


@pytest.mark.parametrize("record", [dimer("CC(=O)[O-].C[NH3+]", (4.5, 6.0)), mixed()], ids=["in turn", "mixed"])
def test_molecules_parametrized_one_by_one_give_the_energy_of_the_complex(record):
    predictor = ForceField(SMALL.parametrize)
    system = SMALL.parametrize(record.molecule).between_components(batch_of([record.molecule]).component)
    expected = energy(system, torch.from_numpy(record.conformers.xyz)).energy[:, 0].numpy()
    np.testing.assert_allclose(interactions.interaction_energies(predictor, record), expected, atol=1e-9)
    # and through the energies of the complex and its molecules
    plain = from_calculator(ModelCalculator("espalike-small"))
    np.testing.assert_allclose(interactions.interaction_energies(plain, record), expected, atol=1e-5)


def test_renumbering_changes_no_energy():
    record = dimer("CC(=O)[O-].C[NH3+]", (4.5, 6.0))
    order = np.random.default_rng(3).permutation(record.molecule.n_atoms)
    moved = replace(record.conformers, xyz=record.conformers.xyz[:, order])
    other = replace(record, molecule=shuffled(record.molecule, order), conformers=moved)
    predictor = ForceField(SMALL.parametrize)
    first, second = (interactions.interaction_energies(predictor, r) for r in (record, other))
    np.testing.assert_allclose(second, first, atol=1e-9)


def test_mmff_counts_interactions_between_molecules():
    """Two waters 3 Å apart attract or repel by kcal/mol; RDKit leaves this out unless it is asked."""
    record = dimer("O.O", (3.0, 40.0))
    near, far = interactions.interaction_energies(from_calculator(MMFFCalculator()), record)
    assert abs(near) > 0.3
    assert abs(far) < 0.01


def scored(errors, scaling, **fields):
    """A complex whose reference is off from zero by `errors`."""
    record = dimer("O.CC#N", tuple(6.0 + k for k in range(len(errors))), **fields)
    values = {"interaction": -np.array(errors, np.float64), "scaling": None if scaling is None else np.array(scaling)}
    return replace(record, conformers=replace(record.conformers, sapt=None, **values))


def test_errors_by_distance_set_and_group():
    first = scored([8.0, 4.0, 2.0, 1.0], [0.8, 0.9, 0.95, 1.0], name="a")
    second = scored([3.0], None, name="b")
    second = replace(second, group="dispersion", key="other", conformers=replace(second.conformers, source="x"))
    rows = interactions.rows(interactions.predict([first, second], {"zero": zero}), resamples=200)
    found = {(row.what, row.name, row.distance): row for row in rows}
    assert {key[:2] for key in found} == {
        ("set", "dimers"), ("set", "x"), ("group", "hydrogen bonds"), ("group", "dispersion"), ("all", "all"),
    }  # fmt: skip
    near = found["all", "all", "at least 0.95"]
    assert (near.complexes, near.points, near.mae.value, near.bias) == (2, 3, 2.0, 2.0)
    assert near.rmse.value == pytest.approx(np.sqrt((4 + 1 + 9) / 3))
    assert near.mae.low == 1.5  # the mean of one complex, resampled twice
    assert near.mae.high == 3.0
    assert found["set", "dimers", "at least 0.9"].mae.value == pytest.approx(7 / 3)
    assert found["set", "dimers", "below 0.9"].mae.value == 8.0
    assert found["set", "dimers", "all"].points == 4
    assert ("set", "x", "below 0.9") not in found  # a distance that is not known is not short


def test_single_precision_scalings_are_in_their_range():
    record = scored([1.0, 2.0], np.array([0.9, 0.95], np.float32))
    rows = interactions.rows(interactions.predict([record], {"zero": zero}), resamples=0)
    assert {row.distance: row.points for row in rows if row.what == "all"} == {
        "at least 0.95": 1, "at least 0.9": 2, "all": 2,
    }  # fmt: skip


def test_complexes_that_a_method_does_not_cover_are_reported_and_left_out():
    records = [scored([1.0], [1.0], name="a"), replace(dimer("O.OBO", (5.0,)), id="b")]
    predictors = {"zero": zero, "mmff94": from_calculator(MMFFCalculator())}  # MMFF94 has no boron
    scores = interactions.predict(records, predictors)
    assert [(f.method, f.entry) for f in scores.failures] == [("mmff94", "b")]
    assert [r.id for r in scores.common] == ["a"]
    text = show.interactions(interactions.rows(scores), len(records))
    assert text.startswith("Interaction energies of the 1 of 2 complexes that all methods cover")
    with pytest.raises(ValueError, match=r"no method has a result for any complex \(mmff94: .*no parameters"):
        interactions.rows(interactions.predict(records[1:], {"mmff94": predictors["mmff94"]}))


def test_evaluate_scores_complexes_beside_other_entries(tmp_path, capsys):
    records = [build_record("CCO", split="test"), replace(dimer(split="test"), id="dimer")]
    write_store(tmp_path / "both", records, manifest=MANIFEST)
    write_store(tmp_path / "complexes", records[1:], manifest=MANIFEST)
    for name, files in (("both", {"table.csv", "parity.png"}), ("complexes", set())):
        out = tmp_path / f"out-{name}"
        arguments = ["model=espalike-small", f"data.path={tmp_path / name}", "baselines=[mmff94]", f"out={out}"]
        assert main(["evaluate", *arguments, "resamples=20"]) == 0
        assert {path.name for path in out.iterdir()} == {"interactions.csv", "summary.json", *files}
        text = capsys.readouterr().out
        assert "distances at least 0.95 of equilibrium" in text
        with (out / "interactions.csv").open() as file:
            lines = list(csv.DictReader(file))
        assert {line["method"] for line in lines} == {"espalike-small", "mmff94"}
        assert {line["what"] for line in lines} == {"set", "group", "all"}
        assert {line["points"] for line in lines if line["name"] == "all"} == {"2"}


def test_complexes_of_known_molecules_are_counted(tmp_path, capsys):
    records = [dimer(pair, split="test") for pair in ("O.CO", "CO.CC#N", "O.CC#N", "CO.CO")]
    write_store(tmp_path / "complexes", records, manifest=MANIFEST)
    model = load("espalike-small")
    trained = [dimer("O.O").key, dimer("CO.N").key, build_record("CC#N").key]  # acetonitrile in no complex
    model.provenance = replace(model.provenance, split={"train": sorted(trained), "val": []})
    model.save(tmp_path / "mine.espalike")
    arguments = [f"model={tmp_path / 'mine.espalike'}", f"data.path={tmp_path / 'complexes'}", "resamples=20"]
    assert main(["evaluate", *arguments, f"out={tmp_path / 'out'}"]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["complexes_of_molecules_seen_in_complexes"] == {"mine": 2}
    assert (
        "note: all molecules of 2 of these 4 complexes are in complexes that mine was trained on; the errors for new "
        "molecules may be larger"
    ) in " ".join(capsys.readouterr().out.split())


def test_molecules_of_a_complex_may_be_more_than_two():
    record = dimer("O.O", (4.0,))
    parts = [m for m, _ in monomers(record.molecule)]
    three = joined([*parts, parts[0]])
    xyz = np.concatenate([record.conformers.xyz, record.conformers.xyz[:, :3] - [4.0, 0, 0]], axis=1)
    record = replace(record, molecule=three, conformers=replace(record.conformers, xyz=xyz))
    plain = from_calculator(ModelCalculator("espalike-small"))
    first, second = (interactions.interaction_energies(p, record) for p in (ForceField(SMALL.parametrize), plain))
    np.testing.assert_allclose(first, second, atol=1e-5)
