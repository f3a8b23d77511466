"""Repeats and RMSD clusters against plain ways: loops, RDKit's alignment, known motions."""

from dataclasses import replace

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdMolAlign
from scipy.spatial.transform import Rotation

from espalike.data.filters import Filters
from espalike.data.similar import Seen, cluster_heads, fingerprints, first_of_each, reach, rmsd_to


def with_xyz(record, xyz, **changes):
    n = len(xyz)
    conformers = replace(record.conformers, xyz=xyz, energy=np.zeros(n), forces=np.zeros_like(xyz))
    return replace(record, conformers=conformers, **changes)


def test_repeats_within_a_record_as_by_a_plain_loop(record_of):
    rng = np.random.default_rng(3)
    base = record_of("CCO", 12).conformers.xyz
    xyz = np.concatenate([base, base[[4, 7]] + rng.uniform(-9e-4, 9e-4, (2, *base.shape[1:])), base[[5]]])
    xyz = np.concatenate([xyz, base[[6]] + 1.1e-3])
    keep = []
    for k in range(len(xyz)):
        keep.append(not any(keep[j] and np.abs(xyz[j] - xyz[k]).max() <= 1e-3 for j in range(k)))
    assert sum(keep) == 13
    assert first_of_each(with_xyz(record_of("CCO"), xyz), 1e-3).tolist() == keep


@pytest.mark.parametrize("smiles", ["[Na+]", "[H][H]", "CCO", "c1ccccc1C(=O)N"])
def test_fingerprints_tell_rounding_from_the_smallest_displacement(record_of, smiles):
    """Rounded to five decimals: the same. One coordinate moved by 0.003 Å, as for finite differences: another."""
    rng = np.random.default_rng(5)
    record = record_of(smiles, 1)
    z, xyz = record.molecule.numbers, record.conformers.xyz
    rounded = np.round(xyz + rng.uniform(-10, 10, (500, 1, 3)), 5)
    exact = rounded + rng.uniform(-5e-6, 5e-6, rounded.shape)
    change = np.abs(fingerprints(z, rounded) - fingerprints(z, exact)).max(axis=1)
    assert (change > 0).all()
    assert (change <= reach(len(z), 1e-5)).all()
    moved = np.repeat(xyz, 20000, axis=0)
    which = rng.integers(len(z), size=20000), rng.integers(3, size=20000)
    moved[(np.arange(20000), *which)] += rng.choice([-3e-3, 3e-3], 20000)
    assert (np.abs(fingerprints(z, moved) - fingerprints(z, xyz)).max(axis=1) > reach(len(z), 1e-5)).all()


def test_rmsd_is_that_of_rdkit(record_of):
    record = record_of("CC(=O)Nc1ccccc1", 6)
    rng = np.random.default_rng(2)
    xyz = record.conformers.xyz + rng.normal(0, 0.3, record.conformers.xyz.shape)
    turned = np.stack([Rotation.random(random_state=k).apply(x) + rng.normal(size=3) for k, x in enumerate(xyz)])
    mol = Chem.MolFromSmiles(record.molecule.smiles, sanitize=False)
    params = Chem.SmilesParserParams()
    params.removeHs = False
    mol = Chem.MolFromSmiles(record.molecule.smiles, params)
    mol = Chem.RenumberAtoms(mol, np.argsort([a.GetAtomMapNum() for a in mol.GetAtoms()]).tolist())
    for x in turned:
        conformer = Chem.Conformer(len(x))
        conformer.SetPositions(np.ascontiguousarray(x))
        mol.AddConformer(conformer, assignId=True)
    same = [(i, i) for i in range(mol.GetNumAtoms())]
    expected = [rdMolAlign.AlignMol(Chem.Mol(mol), mol, prbCid=k, refCid=0, atomMap=same) for k in range(6)]
    np.testing.assert_allclose(rmsd_to(turned, turned[0]), expected, atol=1e-6)
    mirrored = turned[:1] * [1, 1, -1]
    assert rmsd_to(mirrored, turned[0])[0] > 0.5  # a mirror image is no rotation


def test_clusters_keep_the_first_of_each_and_nothing_near(record_of):
    rng = np.random.default_rng(8)
    record = record_of("CCCCO", 1)
    centres = record.conformers.xyz + rng.normal(0, 0.6, (5, *record.conformers.xyz.shape[1:]))
    xyz = np.concatenate([centres, *(centres + rng.normal(0, 0.02, centres.shape) for _ in range(7))])
    xyz = np.stack([Rotation.random(random_state=k).apply(x) for k, x in enumerate(xyz)])
    keep = cluster_heads(with_xyz(record, xyz), 0.25)
    assert np.flatnonzero(keep).tolist() == [0, 1, 2, 3, 4]
    kept, dropped = Filters(connectivity=False, rmsd=0.25)(with_xyz(record, xyz))
    assert len(kept.conformers.xyz) == 5
    assert dropped == {"conformer: RMSD of at most 0.25 Å from an earlier one": 35}
    assert not Filters(connectivity=False)(with_xyz(record, xyz))[1]  # off by default


def test_seen_knows_molecule_level_and_coordinates(record_of):
    seen = Seen()
    record = record_of("CCO", 4)
    assert not seen.repeated(record).any()
    seen.add(record)
    xyz = record.conformers.xyz
    other = record_of("CCO", 4, seed=9).conformers.xyz
    mixed = np.stack([xyz[2], other[0], np.round(xyz[0], 5), xyz[1] + 0.01])
    assert seen.repeated(with_xyz(record, mixed)).tolist() == [True, False, True, False]
    assert not seen.repeated(replace(record, conformers=replace(record.conformers, level="HF"))).any()
    assert not seen.repeated(record_of("CO", 4)).any()


def test_seen_looks_through_another_order_of_like_atoms(record_of):
    seen = Seen()
    record = record_of("CCO", 4)
    seen.add(record)
    order = np.random.default_rng(0).permutation(record.molecule.n_atoms)
    renumbered = replace(record.molecule, numbers=record.molecule.numbers[order])
    moved = with_xyz(record, record.conformers.xyz[:, order], molecule=renumbered)
    assert seen.repeated(moved).all()
    swapped = record.conformers.xyz.copy()
    carbon, oxygen = np.flatnonzero(record.molecule.numbers == 6)[0], np.flatnonzero(record.molecule.numbers == 8)[0]
    swapped[:, [carbon, oxygen]] = swapped[:, [oxygen, carbon]]
    assert not seen.repeated(with_xyz(record, swapped)).any()


def test_seen_grows_record_by_record_as_all_at_once(record_of):
    """Many small records: some points are in the tree, some not yet; all are found."""
    rng = np.random.default_rng(4)
    base = record_of("CO", 1)
    frames = base.conformers.xyz + rng.normal(0, 0.2, (900, *base.conformers.xyz.shape[1:]))
    seen = Seen()
    for k in range(0, 900, 3):
        part = with_xyz(base, frames[k : k + 3])
        assert not seen.repeated(part).any()
        seen.add(part)
    assert seen.repeated(with_xyz(base, frames)).all()
    assert not seen.repeated(with_xyz(base, frames + rng.normal(0, 0.01, frames.shape))).any()


def test_seen_of_a_store_is_that_of_its_records(record_of, store_of):
    records = [record_of("CCO", 3), record_of("CO", 2), record_of("CCO", 2, seed=5)]
    seen = Seen()
    seen.add_table(store_of(*records).table)
    assert all(seen.repeated(record).all() for record in records)
    assert not seen.repeated(record_of("CCO", 3, seed=6)).any()
