"""Complexes in stores: round trip, what is refused by name, filters, splits and `info`."""

from dataclasses import replace
from itertools import combinations_with_replacement

import numpy as np
import pytest
from rdkit import Chem

from espalike.chem import connectivity_key, embed, from_smiles
from espalike.chem.complexes import complex_from_smiles, monomers
from espalike.chem.conformers import Conformers
from espalike.cli.main import main
from espalike.data.batches import Batches
from espalike.data.dataset import StoreDataset, levels_of
from espalike.data.describe import describe
from espalike.data.filters import Filters, useful
from espalike.data.ingest import Ingest
from espalike.data.schema import Record, RecordError, check, row_digest, to_row
from espalike.data.split import LeakageError, check_leakage, resolve_splits
from espalike.data.store import Store, write_store
from tests.batches import Pick, expected, picks_of
from tests.data.common import assert_same

MANIFEST = {"licence": "CC0", "origin": "tests", "command": "pytest"}


def dimer(pair="O.CC#N", distances=(6.0, 8.0), split="", name="", labels=True):
    """Two rigid molecules at distances of their centres [Å], with made-up energies."""
    molecule = complex_from_smiles(pair)
    xyz = np.zeros((len(distances), molecule.n_atoms, 3))
    for i, (monomer, atoms) in enumerate(monomers(molecule)):
        geometry = embed(from_smiles(monomer.smiles), seed=1)[0]
        for k, distance in enumerate(distances):
            xyz[k, atoms] = geometry - geometry.mean(axis=0) + [i * distance, 0.0, 0.0]
    k = len(distances)
    conformers = Conformers(
        xyz=xyz.astype(np.float32).astype(np.float64),
        energy=np.full(k, np.nan),
        forces=None,
        level="CCSD(T)/CBS",
        source="dimers",
        interaction=np.linspace(-3.0, -1.0, k) if labels else None,
        sapt=np.stack([[-4.0, 3.0, -1.0, -1.0], *[[np.nan] * 4] * (k - 1)]) if labels else None,
        scaling=np.array([1.0, *[np.nan] * (k - 1)]) if labels else None,
    )
    return Record(name or pair, molecule, conformers, split, connectivity_key(molecule), group="hydrogen bonds")


def test_round_trip(tmp_path, record_of):
    records = [dimer(), record_of("CCO"), dimer("[Na+].c1ccccc1")]
    store = write_store(tmp_path / "store", records, manifest=MANIFEST)
    store.verify()
    for i, record in enumerate(records):
        again = store.record(i)
        assert (again.group, again.key) == (record.group, record.key or connectivity_key(record.molecule))
        for name in ("interaction", "sapt", "scaling"):
            before, after = getattr(record.conformers, name), getattr(again.conformers, name)
            assert (before is None) == (after is None)
            if before is not None:
                np.testing.assert_array_equal(before, after)
    assert store.record(1).conformers.interaction is None
    assert store.record(0).molecule.smiles == records[0].molecule.smiles


def test_a_row_without_interaction_has_the_digest_of_before(record_of):
    row = to_row(record_of("CCO"))
    assert [row[name] for name in ("interaction", "sapt", "scaling", "group")] == [None] * 4
    assert row_digest(row) != row_digest({**row, "group": "hydrogen bonds"})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"interaction": None}, "interaction energies missing"),
        ({"interaction": np.array([1.0, np.nan])}, "interaction energies not finite"),
        ({"interaction": np.zeros(3)}, "shapes disagree"),
        ({"sapt": np.zeros((2, 6))}, "shapes disagree"),
        ({"sapt": np.array([[0.0, 1.0, np.nan, 0.0], [0.0] * 4])}, "components of interaction energies not finite"),
        ({"scaling": np.array([1.0, np.inf])}, "scalings of distances not finite"),
    ],
)
def test_bad_labels_are_refused_by_name(change, reason):
    record = dimer(name="pair-7")
    with pytest.raises(RecordError, match="pair-7") as error:
        check(replace(record, conformers=replace(record.conformers, **change)))
    assert error.value.reason == reason


def test_one_molecule_has_no_interaction_energy(record_of):
    record = record_of("CCO", 2)
    with pytest.raises(RecordError, match="interaction energies of one molecule") as error:
        check(replace(record, conformers=replace(record.conformers, interaction=np.zeros(2))))
    assert error.value.reason == "no complex"


def test_molecules_that_overlap_are_filtered_by_name():
    record = dimer(distances=(0.5, 6.0))
    kept, dropped = Filters()(record)
    assert dict(dropped) == {"conformer: monomers overlap": 1}
    np.testing.assert_array_equal(kept.conformers.interaction, record.conformers.interaction[1:])
    np.testing.assert_array_equal(kept.conformers.scaling, record.conformers.scaling[1:])
    with pytest.raises(RecordError, match=r"O\.CC#N: no conformer is left.*monomers overlap; in .* \(not bonded\) is"):
        Filters()(dimer(distances=(0.5,)))


def test_a_short_hydrogen_bond_is_no_overlap():
    """The proton of [FHF]⁻ is 0.95 Å from both fluorines: within one molecule less than 1.01 Å is a new bond."""
    molecule = complex_from_smiles("[H:1][F:2].[F-:3]")
    xyz = np.array([[[0.0, 0, 0], [0.95, 0, 0], [-0.95, 0, 0]]])
    record = dimer("[H][F].[F-]", distances=(5.0,))
    record = replace(record, molecule=molecule, conformers=replace(record.conformers, xyz=xyz))
    assert not Filters()(record)[1]


def test_an_energy_window_is_about_interaction_energies():
    kept, dropped = Filters(energy_window=1.0)(dimer())
    assert kept.conformers.interaction.tolist() == [-3.0]
    assert sum(dropped.values()) == 1


def test_a_single_point_is_useful(record_of):
    assert useful(dimer(distances=(6.0,)))


def test_pairs_of_molecules_do_not_leak(tmp_path):
    first = write_store(tmp_path / "a", [dimer("O.CC#N", split="train"), dimer("O.C", split="test")], manifest=MANIFEST)
    other = write_store(tmp_path / "b", [dimer("CC#N.O", split="test")], manifest=MANIFEST)
    check_leakage([first])
    with pytest.raises(LeakageError, match=r"1 molecule on several splits:\n  [A-Z+]+ \(test: b/CC#N.O; train: a"):
        check_leakage([first, other])
    resolved = resolve_splits([first, other])
    assert resolved.splits == {connectivity_key(complex_from_smiles(s)): "test" for s in ("O.CC#N", "O.C")}


def test_a_held_out_complex_has_a_new_molecule(tmp_path):
    """Where the data give no split, and where it is not to be kept."""
    frames = []
    for first, second in combinations_with_replacement(("O", "CO", "N", "CC", "C", "CN", "C=O", "CF"), 2):
        record = dimer(f"{first}.{second}", (6.0,))
        symbols = [Chem.GetPeriodicTable().GetElementSymbol(int(z)) for z in record.molecule.numbers]
        lines = (f"{s} {x} {y} {z}" for s, (x, y, z) in zip(symbols, record.conformers.xyz[0], strict=True))
        frames.append(
            f"{len(symbols)}\nProperties=species:S:1:pos:R:3 smiles={record.molecule.smiles} interaction=-1.0 "
            f'pbc="F F F" split=train\n' + "\n".join(lines) + "\n"
        )
    (tmp_path / "dimers.xyz").write_text("".join(frames))
    arguments = ["reader=extxyz", f"reader.path={tmp_path / 'dimers.xyz'}", "reader.interaction=interaction"]
    arguments += ["reader.units='interaction kcal/mol'", "reader.level=MP2", "split=hash", "seed=4"]
    assert main(["ingest", *arguments, "licence=CC0", "origin=tests", f"out={tmp_path / 'store'}"]) == 0
    store = Store.open(tmp_path / "store")
    rows = list(zip(store.column("key"), store.column("split"), strict=True))
    known = {part for key, split in rows if split == "train" for part in key.split("+")}
    held_out = [key for key, split in rows if split != "train"]
    assert len(rows) == 36
    assert 8 <= len(held_out) <= 28
    assert all(set(key.split("+")) - known for key in held_out)


@pytest.fixture
def dataset(tmp_path, record_of):
    records = [
        record_of("CCO", 5),
        dimer(distances=(6.0, 7.0, 8.0), split="train"),
        record_of("CO", 3),
        replace(dimer("O.O", (6.0,), split="train"), id="without components"),
    ]
    bare = replace(records[3].conformers, sapt=None)
    store = write_store(tmp_path / "store", [*records[:3], replace(records[3], conformers=bare)], manifest=MANIFEST)
    levels = levels_of([store], None)
    assert levels == ["B3LYP-D3BJ/DZVP"]  # that of complexes does not count
    return StoreDataset([store], "train", levels)


def test_batches_hold_interaction_energies_beside_other_entries(dataset):
    assert dataset.complexes.tolist() == [False, True, False, True]
    assert dataset.level.tolist() == [0] * 4
    picks = [Pick(0, np.array([0, 2])), Pick(1, np.array([0, 2])), Pick(3, np.array([0]))]
    batches = Batches(dataset)
    batch = batches.__getitems__(picks_of(picks))
    assert_same(batch, expected(dataset, picks))
    nan = np.nan
    np.testing.assert_array_equal(batch.interaction, [[nan, -3.0, -3.0], [nan, -1.0, nan]])
    assert batch.component.unique().tolist() == [0, 1, 2, 3, 4]
    alone = batches.__getitems__(picks_of([Pick(2, np.array([1]))]))
    assert alone.interaction is None
    assert alone.sapt is None
    assert batches.__getitems__(picks_of([Pick(3, np.array([0]))])).sapt is None


def test_levels_of_complexes_alone(tmp_path):
    store = write_store(tmp_path / "store", [dimer()], manifest=MANIFEST)
    assert levels_of([store], None) == ["CCSD(T)/CBS"]


def test_references_are_those_of_the_molecules():
    calls = []

    def reference(molecule):
        calls.append(molecule.n_atoms)
        return 10.0 * len(calls) + np.arange(molecule.n_atoms), np.ones((molecule.n_atoms, 2)) * len(calls)

    record = dimer("[H:2][F:4].[H:1][Cl:3]", (6.0,))
    (outcome,) = Ingest([record], Filters(), lambda record: "train", reference)
    assert calls == [2, 2]
    assert outcome.record.molecule.numbers.tolist() == [1, 1, 17, 9]
    assert outcome.record.ref_charge.tolist() == [10.0, 20.0, 11.0, 21.0]
    assert outcome.record.ref_lj[:, 0].tolist() == [1.0, 2.0, 1.0, 2.0]


def test_info_counts_complexes_and_points(tmp_path, record_of):
    records = [dimer(), replace(dimer("O.O", (6.0,)), group=""), record_of("CCO")]
    content = describe(write_store(tmp_path / "store", records, manifest=MANIFEST))
    assert content["complexes"] == {
        "hydrogen bonds": {"complexes": 1, "points": 2, "lowest": -3.0},
        "not stated": {"complexes": 1, "points": 1, "lowest": -3.0},
    }
