"""Complexes: their graphs, keys and charges; no charge flows between molecules."""

import numpy as np
import pytest
import torch

from espalike.batch import batch_of
from espalike.chem import ChemistryError, connectivity_key, from_smiles
from espalike.chem.complexes import complex_from_smiles, is_complex, joined, monomers
from tests.nn.common import F64, model

PAIRS = (("CC(=O)[O-]", "NC(=[NH2+])N"), ("O", "c1ccccc1"), ("[Na+]", "C[N+](=O)[O-]"))
LEARNED = ("equilibration", "increments")


def shuffled(molecule, order):
    """The complex with atom `order[i]` in place `i`."""
    place = np.argsort(order)
    parts = monomers(molecule)
    again = [np.sort(place[atoms]) for _, atoms in parts]
    moved = []
    for (monomer, atoms), target in zip(parts, again, strict=True):
        own = np.searchsorted(target, place[atoms])  # new place in its molecule of each of its atoms
        smiles = monomer.smiles
        for i in range(monomer.n_atoms):
            smiles = smiles.replace(f":{i + 1}]", f":x{own[i] + 1}]")
        moved.append(from_smiles(smiles.replace(":x", ":"), monomer.name))
    return joined(moved, again, molecule.name)


@pytest.mark.parametrize("pair", PAIRS, ids=".".join)
def test_a_complex_is_its_molecules(pair):
    first, second = (from_smiles(s) for s in pair)
    both = joined([first, second])
    assert is_complex(both)
    assert not is_complex(first)
    for (monomer, atoms), expected in zip(monomers(both), (first, second), strict=True):
        assert monomer.smiles == expected.smiles
        for name in ("numbers", "charges", "bonds", "orders"):
            np.testing.assert_array_equal(getattr(monomer, name), getattr(expected, name))
        np.testing.assert_array_equal(both.numbers[atoms], expected.numbers)
    again = complex_from_smiles(both.smiles)
    np.testing.assert_array_equal(again.bonds, both.bonds)
    assert complex_from_smiles(".".join(pair)).n_atoms == both.n_atoms


def test_atoms_of_the_molecules_may_be_in_any_order():
    mixed = complex_from_smiles("[O:2]([H:1])[H:5].[N:4]([H:3])([H:6])[H:7]")
    assert mixed.numbers.tolist() == [1, 8, 1, 7, 1, 1, 1]
    assert mixed.bonds.tolist() == [[0, 1], [1, 4], [2, 3], [3, 5], [3, 6]]
    (first, of_first), (second, of_second) = monomers(mixed)
    assert (of_first.tolist(), of_second.tolist()) == ([0, 1, 4], [2, 3, 5, 6])
    assert (first.numbers.tolist(), second.numbers.tolist()) == ([1, 8, 1], [1, 7, 1, 1])


def test_the_key_is_that_of_the_pair_in_either_order():
    keys = sorted(connectivity_key(from_smiles(s)) for s in ("O", "C"))
    for pair in ("O.C", "C.O"):
        assert connectivity_key(complex_from_smiles(pair)) == "+".join(keys)


@pytest.mark.parametrize(
    ("smiles", "message"),
    [
        ("O", "dimer: 'O' is one molecule; expected two or more"),
        ("O.C(C)(C)(C)(C)C", "dimer, molecule 2: atom 1 .C. has more bonds"),
        ("O.[Ar]", "dimer, molecule 2: atom 1 is Ar; supported are H B"),
        ("O.xyz", "dimer, molecule 2: 'xyz' is not a valid SMILES"),
        ("[H:1][H:2].[H:2][H:3]", "must number all atoms of all molecules, hydrogens included, 1…4 once"),
        ("[H:1][H:2].O", "molecule 2 .O. has no map numbers"),
        ("[CH3:1][H:2].[H:3][H:4]", "dimer, molecule 1: a mapped SMILES must number every atom"),
    ],
)
def test_what_is_no_complex_is_refused_with_the_molecule(smiles, message):
    with pytest.raises(ChemistryError, match=message):
        complex_from_smiles(smiles, "dimer")


@pytest.mark.parametrize("charges", LEARNED)
@pytest.mark.parametrize("pair", PAIRS, ids=".".join)
def test_parameters_of_a_complex_are_those_of_its_molecules(charges, pair):
    made = model("class1", f"forcefield.term.coulomb.charges={charges}")
    both = joined([from_smiles(s) for s in pair])
    alone = [made.parametrize(monomer) for monomer, _ in monomers(both)]
    together = made.parametrize(both)
    for bound in together.terms:
        parts = torch.cat([system.bound(bound.term.name).values for system in alone])
        torch.testing.assert_close(bound.values, parts, rtol=0, atol=1e-10)
    q = together.bound("Coulomb").values[:, 0]
    for monomer, atoms in monomers(both):
        assert float(q[torch.from_numpy(atoms)].sum()) == pytest.approx(monomer.net_charge, abs=1e-9)


@pytest.mark.parametrize("charges", LEARNED)
def test_renumbering_a_complex_changes_no_charge(charges):
    made = model("class1", f"forcefield.term.coulomb.charges={charges}")
    both = joined([from_smiles(s) for s in PAIRS[0]])
    order = np.random.default_rng(0).permutation(both.n_atoms)
    first, second = (made.parametrize(m).bound("Coulomb").values for m in (both, shuffled(both, order)))
    torch.testing.assert_close(second, first[torch.from_numpy(order)], rtol=0, atol=1e-10)


def test_components_of_a_batch_are_numbered_across_molecules():
    batch = batch_of([from_smiles("C"), complex_from_smiles("[Na+].O"), from_smiles("[Cl-]")], F64)
    assert batch.component.tolist() == [0] * 5 + [1] + [2] * 3 + [3]
    assert batch.component_charge.tolist() == [0, 1, 0, -1]
    assert batch.net_charge.tolist() == [0, 1, -1]
