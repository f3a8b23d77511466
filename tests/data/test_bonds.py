"""Bonds of geometries against the graph: each kind of fault by its own construction, none where there is none."""

from dataclasses import replace

import numpy as np
import pytest

from espalike.chem import bonds
from espalike.chem.bonds import FAULTS, bond_faults, describe_fault, intact
from espalike.data.filters import Filters
from espalike.data.schema import RecordError


def fault(molecule, xyz):
    number = bond_faults(molecule, np.asarray(xyz)[None])[0]
    assert intact(molecule, np.asarray(xyz)) == (number == 0)
    return FAULTS[number - 1] if number else None


def bonded_to(molecule, atom):
    return [int(j if i == atom else i) for i, j in molecule.bonds if atom in (i, j)]


def hydrogen_on(molecule, element):
    """A hydrogen, and the atom of this element that it is bonded to."""
    for h in np.flatnonzero(molecule.numbers == 1):
        (atom,) = bonded_to(molecule, h)
        if molecule.numbers[atom] == element:
            return int(h), atom
    raise AssertionError("no such hydrogen")


def test_a_hydrogen_pulled_away_is_a_broken_bond(molecule_of):
    molecule, xyz = molecule_of("CCO")
    h, carbon = hydrogen_on(molecule, 6)
    xyz[h] = xyz[carbon] + 3.0 * (xyz[h] - xyz[carbon]) / np.linalg.norm(xyz[h] - xyz[carbon])
    assert fault(molecule, xyz) == "broken"
    text = describe_fault(molecule, xyz)
    assert f"C{carbon + 1}" in text
    assert f"H{h + 1}" in text
    assert "is 3.00 Å, expected at most 1.55 Å" in text  # 1.45 (0.31 + 0.76)


def test_a_proton_that_moves_to_another_atom_is_transferred(molecule_of):
    molecule, xyz = molecule_of("[NH3+]CC(=O)[O-]")
    h, nitrogen = hydrogen_on(molecule, 7)
    oxygen = int(np.flatnonzero(molecule.charges == -1)[0])
    outward = xyz[oxygen] - xyz.mean(axis=0)
    xyz[h] = xyz[oxygen] + 0.98 * outward / np.linalg.norm(outward)
    assert fault(molecule, xyz) == "transferred"
    assert molecule.numbers[nitrogen] == 7


def test_a_ring_where_the_graph_has_a_chain_has_formed_a_bond(molecule_of):
    ring, xyz = molecule_of("C1CCCCC1")
    carbons = np.flatnonzero((ring.numbers[ring.bonds] == 6).all(axis=1))
    i, j = ring.bonds[carbons[0]]
    chain = replace(ring, bonds=np.delete(ring.bonds, carbons[0], axis=0), orders=np.delete(ring.orders, carbons[0]))
    assert fault(ring, xyz) is None
    assert fault(chain, xyz) == "formed"
    assert f"C{i + 1}-C{j + 1} (not bonded) is 1.5" in describe_fault(chain, xyz)


def test_atoms_on_each_other_are_too_close(molecule_of):
    molecule, xyz = molecule_of("CCO")
    h, carbon = hydrogen_on(molecule, 6)
    xyz[h] = xyz[carbon] + 0.3 * (xyz[h] - xyz[carbon])
    assert fault(molecule, xyz) == "atoms too close"
    molecule, xyz = molecule_of("[H][H]")
    xyz[1] = xyz[0] + [0.2, 0, 0]
    assert fault(molecule, xyz) == "atoms too close"
    assert "expected at least" in describe_fault(molecule, xyz)


@pytest.mark.parametrize(
    "smiles",
    [
        "C12CC(C1)C2", "C1=CC1", "OO", "FS(F)(F)(F)(F)F", "C1C2CC1C2", "O=C(O)C(=O)O",
        "CC(=O)Nc1ccccc1", "C1CC1", "O", "FS(=O)(=O)C#N",
    ],
)  # fmt: skip
def test_molecules_have_their_bonds_in_any_block_size(molecule_of, monkeypatch, smiles):
    molecule, xyz = molecule_of(smiles)
    frames = xyz + np.random.default_rng(0).normal(0, 0.05, (50, *xyz.shape))
    assert not bond_faults(molecule, frames).any()
    monkeypatch.setattr(bonds, "_BLOCK", 7 * molecule.n_atoms * (molecule.n_atoms - 1) // 2)
    assert not bond_faults(molecule, frames).any()
    frames[33, 0] += 4.0
    assert np.flatnonzero(bond_faults(molecule, frames)).tolist() == [33]


@pytest.mark.parametrize("smiles", ["[H][H]", "[Na+]"])
def test_shaken_small_molecules_have_their_bonds(record_of, smiles):
    record = record_of(smiles, 20)
    assert not bond_faults(record.molecule, record.conformers.xyz).any()


@pytest.mark.parametrize("shift", [0.0, 300.0])
def test_pairs_that_stay_apart_may_be_skipped(molecule_of, shift):
    """The same geometries have a fault as by all distances, some turned, some distorted; and alone as among others."""
    from scipy.spatial.distance import cdist
    from scipy.spatial.transform import Rotation

    molecule, xyz = molecule_of("CC(=O)NCCc1ccccc1")
    rng = np.random.default_rng(4)
    frames = xyz + rng.normal(0, 1, (60, *xyz.shape)) * np.linspace(0, 0.7, 60)[:, None, None] ** 2
    frames[40:] = np.stack([Rotation.random(random_state=k).apply(x) for k, x in enumerate(frames[40:])]) + shift
    pairs = bonds._Pairs.of(molecule)
    wrong = []
    for x in frames:
        ratio = cdist(x, x)[pairs.i, pairs.j] / pairs.reach
        bad = (ratio < pairs.shortest / pairs.reach) | (pairs.bonded & (ratio > bonds.LONGEST_BOND))
        wrong.append(bool(bad.any()))
    assert 10 < sum(wrong) < 50
    result = bond_faults(molecule, frames)
    assert (result > 0).tolist() == wrong
    assert result.tolist() == [bond_faults(molecule, x[None])[0] for x in frames]
    assert bond_faults(molecule, frames[:0]).shape == (0,)


def test_distances_are_those_of_scipy(molecule_of):
    from scipy.spatial.distance import cdist

    _, xyz = molecule_of("CCCCCCCCCC")
    far = xyz + 50.0  # single precision notwithstanding
    i, j = np.triu_indices(len(xyz), 1)
    result = bonds._squares(np.stack([far, 2 * far]), i, j)
    np.testing.assert_allclose(np.sqrt(result[:, 0]), cdist(xyz, xyz)[i, j], atol=3e-5)
    np.testing.assert_allclose(np.sqrt(result[:, 1]), 2 * cdist(xyz, xyz)[i, j], atol=6e-5)


def test_each_kind_is_a_reason_of_its_own(record_of):
    record = record_of("CCO", 3)
    xyz = record.conformers.xyz.copy()
    h, carbon = hydrogen_on(record.molecule, 6)
    xyz[:, h] = xyz[:, carbon] + [0.0, 0.0, 9.0]
    with pytest.raises(RecordError, match=r"in conformer 1 of them .*C\d-H\d|H\d-C\d") as info:
        Filters()(replace(record, conformers=replace(record.conformers, xyz=xyz)))
    assert info.value.reason == "no conformer left, bonds differ from the graph (broken)"


def test_permuted_atoms_are_caught(record_of):
    record = record_of("CC(=O)Nc1ccccc1", 5)
    order = np.random.default_rng(1).permutation(record.molecule.n_atoms)
    with pytest.raises(RecordError) as info:
        Filters()(replace(record, conformers=replace(record.conformers, xyz=record.conformers.xyz[:, order])))
    assert info.value.reason.startswith("no conformer left, bonds differ from the graph")


@pytest.mark.parametrize(
    ("options", "smiles", "reason"),
    [
        ({"elements": ["H", "C"]}, "CCO", "element outside the domain"),
        ({"net_charges": [0]}, "CC(=O)[O-]", "net charge outside the domain"),
    ],
)
def test_molecules_outside_the_domain(record_of, options, smiles, reason):
    with pytest.raises(RecordError, match="filters") as info:
        Filters(**options)(record_of(smiles, 2))
    assert info.value.reason == reason
    Filters(**options)(record_of("CC", 2))


def test_open_shells(record_of):
    record = record_of("CCO", 2)
    charges = record.molecule.charges.copy()
    charges[0] = 1
    cation = replace(record, molecule=replace(record.molecule, charges=charges))
    with pytest.raises(RecordError, match="25 electrons with charge \\+1") as info:
        Filters()(cation)
    assert info.value.reason == "open shell"
    Filters(closed_shell=False)(cation)


def test_unknown_element_symbol():
    with pytest.raises(ValueError, match="'Xx' is not an element symbol"):
        Filters(elements=["H", "Xx"])
