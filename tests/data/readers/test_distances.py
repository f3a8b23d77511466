"""Frames grouped by their bonds, and molecules made of bonds."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem

from espalike.chem import connectivity_key, from_smiles
from espalike.data.readers.distances import frames_by_bonds, from_bonds
from espalike.data.schema import RecordError
from tests.data.readers.samples import graph_of, sample

SHARED = Path(__file__).parents[4] / "shared" / "data" / "rmd17_2k.h5"
NEUTRAL = [
    "CO",
    "c1ccoc1",
    "CC#N",
    "C[N+](=O)[O-]",
    "CS(C)(=O)=O",
    "O=C1C=CC(=O)C=C1",
    "C1CC1",
    "[C-]#[O+]",
]
CHARGED = [("C[NH3+]", 1), ("CC(=O)[O-]", -1), ("NC(N)=[NH2+]", 1), ("[Cl-]", -1)]


@pytest.mark.parametrize("smiles", NEUTRAL)
def test_bonds_and_their_orders_are_found(smiles):
    s = sample(smiles, 5)
    ((bonds, frames),) = frames_by_bonds(s.numbers, s.xyz)
    assert frames.tolist() == [0, 1, 2, 3, 4]
    molecule = from_bonds("m", s.numbers, bonds)
    assert graph_of(molecule.smiles) == graph_of(s.smiles)
    assert molecule.numbers.tolist() == s.numbers.tolist()


@pytest.mark.parametrize(
    "smiles",
    [
        "O=C(N)c1ccsc1", "NS(=O)(=O)c1ccc(Br)s1", "O=C(Nc1ccc([N+](=O)[O-])cc1)C", "CC(=O)N=c1sccn1C", "CP(=O)(O)O",
        "CS(C)=O", "C[N+](C)(C)[O-]", "OB(O)c1ccccc1", "C#CC#C", "C=C=C=O", "FC(F)(F)c1ncccn1", "CN=C=S", "O=S(=O)(O)O",
    ],
)  # fmt: skip
def test_the_best_structure_is_found(smiles):
    """RDKit's DetermineBondOrders refuses some of these, and draws S+ and O- into others."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    bonds = np.array([(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds()])
    numbers = np.array([a.GetAtomicNum() for a in mol.GetAtoms()])
    molecule = from_bonds("m", numbers, bonds)
    assert connectivity_key(molecule) == connectivity_key(from_smiles(smiles))
    assert graph_of(molecule.smiles)[3] == Chem.CanonSmiles(smiles)
    assert np.abs(molecule.charges).sum() == sum(abs(a.GetFormalCharge()) for a in mol.GetAtoms())


def test_elements_without_valence_states():
    with pytest.raises(RecordError, match="no bond orders"):
        from_bonds("m", np.array([34, 1, 1]), np.array([[0, 1], [0, 2]]))


def test_another_resonance_form_is_the_same_molecule():
    s = sample("CN=[N+]=[N-]", 1)
    ((bonds, _),) = frames_by_bonds(s.numbers, s.xyz)
    molecule = from_bonds("m", s.numbers, bonds)
    assert connectivity_key(molecule) == connectivity_key(from_smiles("CN=[N+]=[N-]"))


@pytest.mark.parametrize(("smiles", "charge"), CHARGED)
def test_ions_need_their_charge(smiles, charge):
    s = sample(smiles, 1)
    ((bonds, _),) = frames_by_bonds(s.numbers, s.xyz)
    assert graph_of(from_bonds("m", s.numbers, bonds, charge).smiles) == graph_of(s.smiles)
    if len(s.numbers) > 1:
        with pytest.raises(RecordError, match=r"m: no bond orders .* charge \+0"):
            from_bonds("m", s.numbers, bonds)


def test_isomers_are_told_apart_and_keep_their_frames():
    ethanol = sample("CCO", 4)
    order = np.argsort(-ethanol.numbers, kind="stable")
    ether = sample("COC", 3, seed=1)
    xyz = np.empty((7, 9, 3))
    xyz[[0, 2, 3, 6]] = ethanol.xyz[:, order]
    xyz[[1, 4, 5]] = ether.xyz[:, np.argsort(-ether.numbers, kind="stable")]
    numbers = ethanol.numbers[order]
    (first, of_first), (second, of_second) = frames_by_bonds(numbers, xyz)
    assert (of_first.tolist(), of_second.tolist()) == ([0, 2, 3, 6], [1, 4, 5])
    smiles = [graph_of(from_bonds("m", numbers, bonds).smiles)[3] for bonds in (first, second)]
    assert smiles == ["CCO", "COC"]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_order_of_atoms_and_frames_and_the_place_in_space_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    numbers, xyz = moved(3.0)
    atoms, frames = rng.permutation(6), rng.permutation(5)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    other = xyz[frames][:, atoms] @ turn + rng.normal(0, 5, 3)
    back = dict(enumerate(atoms.tolist()))

    def as_sets(groups, atom, frame):
        return {
            (
                frozenset(frozenset(atom(a) for a in bond) for bond in bonds.tolist()),
                frozenset(map(frame, rows.tolist())),
            )
            for bonds, rows in groups
        }

    plain = as_sets(frames_by_bonds(numbers, xyz), int, int)
    assert plain == as_sets(frames_by_bonds(numbers[atoms], other), back.get, lambda k: int(frames[k]))
    assert len(plain) == 2


def moved(distance):
    """Methanol, four frames as they are and one with its hydroxyl hydrogen at a distance [Å] from the oxygen."""
    s = sample("CO", 5)
    o = int(np.flatnonzero(s.numbers == 8)[0])
    h = min(np.flatnonzero(s.numbers == 1), key=lambda i: np.linalg.norm(s.xyz[0, i] - s.xyz[0, o]))
    xyz = s.xyz.copy()
    bond = xyz[2, h] - xyz[2, o]
    xyz[2, h] = xyz[2, o] + distance * bond / np.linalg.norm(bond)
    return s.numbers, xyz


@pytest.mark.parametrize(("distance", "groups"), [(1.2, 1), (1.35, 1), (1.45, 2), (3.0, 2)])
def test_a_stretched_bond_stays_with_its_molecule_and_a_broken_one_does_not(distance, groups):
    """The sum of covalent radii of O and H is 0.97 Å; 1.26 Å is the limit for a frame alone, 1.41 Å for one of many."""
    numbers, xyz = moved(distance)
    parts = frames_by_bonds(numbers, xyz)
    assert [len(frames) for _, frames in parts] == ([5] if groups == 1 else [4, 1])
    if groups == 2:
        with pytest.raises(RecordError, match=r"m: fragments of (5, 1|1, 5) atoms"):
            from_bonds("m", numbers, parts[1][0])
    alone = frames_by_bonds(numbers, xyz[2:3])[0][0]
    assert len(alone) == (5 if distance < 1.26 else 4)


def test_radicals_are_refused():
    s = sample("CO", 1)
    keep = np.arange(6) != np.flatnonzero(s.numbers == 1)[0]
    ((bonds, _),) = frames_by_bonds(s.numbers[keep], s.xyz[:, keep])
    with pytest.raises(RecordError) as caught:
        from_bonds("m", s.numbers[keep], bonds)
    assert caught.value.reason == "no closed shell"


def test_many_frames_are_cut_into_chunks(monkeypatch):
    s = sample("CC", 50)
    whole = frames_by_bonds(s.numbers, s.xyz)
    monkeypatch.setattr("espalike.data.readers.distances._CHUNK", 100)
    ((bonds, frames),) = frames_by_bonds(s.numbers, s.xyz)
    np.testing.assert_array_equal(bonds, whole[0][0])
    np.testing.assert_array_equal(frames, np.arange(50))


def test_the_molecules_of_real_dynamics():
    if not SHARED.exists():
        pytest.skip("the shared data are not here")
    with h5py.File(SHARED) as file:
        for name, group in file.items():
            numbers = group["atomic_numbers"][:].astype(np.int64)
            parts = frames_by_bonds(numbers, group["coords"][:])
            bonds, frames = max(parts, key=lambda part: len(part[1]))
            assert len(frames) >= 0.999 * len(group["coords"]), (name, [len(part[1]) for part in parts])
            assert connectivity_key(from_bonds(name, numbers, bonds)) == group.attrs["connectivity_key"]


def test_drug_like_molecules_and_ions_of_the_shared_data():
    path = SHARED.with_name("openff_torsiondrives_forces.h5")
    if not path.exists():
        pytest.skip("the shared data are not here")
    with h5py.File(path) as file:
        chosen = [group for i, group in enumerate(file.values()) if i % 6 == 0]
        same = 0
        for group in chosen:
            numbers = group["atomic_numbers"][:].astype(np.int64)
            ((bonds, _),) = frames_by_bonds(numbers, group["coords"][:])
            molecule = from_bonds(group.name, numbers, bonds, int(group.attrs["charge"]))
            same += connectivity_key(molecule) == group.attrs["connectivity_key"]
    assert same >= 0.98 * len(chosen) > 100, (
        "some zwitterions are drawn as quinones, which InChI calls another molecule"
    )
