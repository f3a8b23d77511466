"""Graphs from elements and coordinates: laid on, perceived, for the real molecules of the shared data."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem

from espalike.chem import ChemistryError, to_rdkit
from espalike.data.readers.hdf5 import Hdf5Reader
from espalike.data.readers.structure import connectivity, driven_torsion, molecule_of
from espalike.data.schema import RecordError
from tests.data.readers.samples import rdkit_of, sample

SHARED = Path(__file__).parents[4] / "shared" / "data" / "openff_torsiondrives_forces.h5"


def plain(molecule):
    return Chem.MolToSmiles(Chem.RemoveHs(to_rdkit(molecule)), isomericSmiles=False)


def test_real_molecules_with_their_atoms_shuffled():
    """An unmapped SMILES finds each atom; perceived bonds are the same ones, if some are drawn otherwise."""
    if not SHARED.exists():
        pytest.skip("the shared data are not here")
    drawn_alike = 0
    for k, record in enumerate(islice(Hdf5Reader(SHARED), 0, 400, 8)):
        molecule, xyz = record.molecule, record.conformers.xyz[0]
        order = np.random.default_rng(k).permutation(molecule.n_atoms)
        expected = {tuple(pair) for pair in molecule.bonds.tolist()}
        laid = molecule_of(record.id, molecule.numbers[order], xyz[order], plain(molecule), molecule.net_charge)
        assert {tuple(sorted(order[pair].tolist())) for pair in laid.bonds} == expected
        assert plain(laid) == plain(molecule)
        perceived = molecule_of(record.id, molecule.numbers[order], xyz[order], None, molecule.net_charge)
        assert {tuple(sorted(order[pair].tolist())) for pair in perceived.bonds} == expected
        drawn_alike += plain(perceived) == plain(molecule)
    assert drawn_alike > 45


def test_single_atoms():
    ion = molecule_of("sodium", np.array([11]), np.zeros((1, 3)), None, 1)
    assert (ion.n_atoms, ion.net_charge) == (1, 1)
    with pytest.raises(ChemistryError, match="unpaired"):
        molecule_of("hydrogen", np.array([1]), np.zeros((1, 3)))


def test_broken_molecules_are_not_perceived_as_others():
    s = sample("CCO")
    xyz = s.xyz[0].copy()
    xyz[int(np.flatnonzero(s.numbers == 1)[0])] += 20.0
    with pytest.raises((RecordError, ChemistryError), match=r"no bond orders|fragments|unpaired"):
        molecule_of("broken", s.numbers, xyz)
    with pytest.raises(RecordError, match="are not those of the SMILES"):
        molecule_of("broken", s.numbers, xyz, "CCO")


def test_connectivity_is_that_of_the_graph():
    s = sample("CSCC#N")
    bonds = {tuple(sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx()))) for b in rdkit_of(s.smiles).GetBonds()}
    assert set(connectivity(s.numbers, s.xyz[0])) == bonds


@pytest.mark.parametrize(("third", "found"), [([0, 0, 1.0], "nan"), ([0, 0, 2.0], "0.0")])
def test_a_driven_torsion_without_an_angle_fits_no_grid(third, found):
    """Atoms upon each other, atoms in a line: refused, not passed."""
    xyz = np.array([[[0.0, 0, 0], [0, 0, 1], third, [1, 0, 3]]])
    with pytest.raises(RecordError, match=f"is at {found} degrees"):
        driven_torsion("m", xyz, [[0, 1, 2, 3]], [[90.0]])
