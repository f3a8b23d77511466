"""The frames chosen for labels: those of the pool that a committee disagrees about most, none of them twice."""

import numpy as np
from rdkit.Chem import rdMolAlign

from espalike.chem import from_smiles, to_rdkit
from espalike.qm.base import spread
from espalike.qm.mmff import MMFFCalculator
from espalike.qm.sampling import Disagreement, intact


class Pair:
    """MMFF94 and MMFF94s, which differ at nitrogen, with MMFF94's dynamics."""

    level = program = "pair"

    def __init__(self):
        self.members = [MMFFCalculator(variant) for variant in ("MMFF94", "MMFF94s")]

    def __call__(self, molecule, xyz):
        return self.members[0](molecule, xyz)

    def disagreement(self, molecule, xyz):
        return spread(np.array([[member(molecule, x)[1] for x in xyz] for member in self.members]))


def test_the_chosen_are_the_worst_of_the_pool():
    molecule, committee = from_smiles("CC(=O)NC"), Pair()
    sampler = Disagreement(committee, frames=3, pool=15, interval=15.0, starts=2, apart=0.0)
    frames, pool = sampler(molecule), sampler.candidates(molecule)
    assert frames.shape == (3, molecule.n_atoms, 3)
    assert len(pool) == 15
    assert all(intact(molecule, xyz) for xyz in frames)
    of_pool, of_chosen = committee.disagreement(molecule, pool), committee.disagreement(molecule, frames)
    np.testing.assert_allclose(of_chosen, np.sort(of_pool)[:-4:-1], atol=1e-6)
    assert of_chosen.min() > of_pool.mean()
    np.testing.assert_array_equal(frames, sampler(from_smiles("CC(=O)NC")))
    np.testing.assert_array_equal(frames, frames.astype(np.float32))
    least = float(of_chosen[:2].mean())
    assert len(Disagreement(committee, 3, 15, least=least, apart=0.0, interval=15.0, starts=2)(molecule)) == 1


def test_no_two_are_alike():
    molecule = from_smiles("CN")
    settings = {"frames": 10, "pool": 40, "temperature": 100.0, "interval": 3.0, "starts": 1}
    close = Disagreement(Pair(), apart=0.0, **settings)(molecule)
    apart = Disagreement(Pair(), apart=0.05, **settings)(molecule)
    assert len(close) == 10
    assert len(apart) > 1
    np.testing.assert_array_equal(apart[0], close[0])
    rmsd = [
        rdMolAlign.AlignMol(to_rdkit(molecule, a), to_rdkit(molecule, b))
        for k, a in enumerate(apart)
        for b in apart[:k]
    ]
    assert min(rmsd) >= 0.05 - 1e-6
    nearest = min(
        rdMolAlign.AlignMol(to_rdkit(molecule, a), to_rdkit(molecule, b))
        for k, a in enumerate(close)
        for b in close[:k]
    )
    assert nearest < 0.05


def test_an_ion_of_one_atom_needs_no_label():
    assert Disagreement(Pair())(from_smiles("[Na+]")).shape == (0, 1, 3)
