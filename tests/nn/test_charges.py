"""Charge models: sums are the formal charge; increments move charge along bonds; given charges are used."""

import numpy as np
import pytest
import torch
from rdkit import Chem

from espalike.batch import batch_of
from espalike.chem import from_smiles
from espalike.model import from_config
from espalike.nn.charges import CHARGE_HEADS
from espalike.terms.coulomb import CHARGES, Coulomb
from espalike.tuples import Kind
from tests.batches import labelled
from tests.molecules import DRUGLIKE, SMALL
from tests.nn.common import F64, config, model

LEARNED = ("equilibration", "increments")


def setting(charges):
    return f"forcefield.term.coulomb.charges={charges}"


def charges_of(system):
    return system.bound("Coulomb").values[:, 0]


def test_every_charge_model_has_a_head_and_others_are_refused():
    assert set(CHARGE_HEADS) == set(CHARGES)
    with pytest.raises(ValueError, match="unknown charge model 'am1bcc'; known: equilibration, increments, input"):
        Coulomb(charges="am1bcc")


@pytest.mark.parametrize("charges", LEARNED)
def test_charges_sum_to_the_formal_charge_even_from_a_single_precision_network(charges):
    torch.manual_seed(2)
    made = from_config(config("class1", setting(charges)))
    with torch.no_grad():
        for key, weight in made.named_parameters():
            if "tuple.3" in key:
                weight.mul_(50.0)
        molecules = [from_smiles(s) for s in (*DRUGLIKE, *SMALL)]
        batch = batch_of(molecules)
        q = charges_of(made(batch))
    assert batch.x.dtype == torch.float32
    assert q.dtype == F64
    total = torch.zeros(len(molecules), dtype=F64).index_add(0, batch.mol, q)
    net = torch.tensor([float(m.net_charge) for m in molecules], dtype=F64)
    torch.testing.assert_close(total, net, rtol=0, atol=1e-9)
    assert len(net.unique()) >= 4
    assert q.std() > 0.1


class TestIncrements:
    made = staticmethod(lambda: model("class1", setting("increments")))

    @torch.no_grad()
    def test_what_one_atom_gives_the_other_takes(self):
        (head,) = [h for h in self.made().heads if type(h).__name__ == "Increments"]
        h, idx = torch.randn(6, 16, dtype=F64), torch.tensor([[0, 1], [2, 5], [3, 4]])
        forward, backward = head.head(h, idx), head.head(h, idx.flip(1))
        torch.testing.assert_close(forward, -backward, rtol=0, atol=1e-14)
        assert forward.abs().min() > 1e-3

    @pytest.mark.parametrize(("smiles", "expected"), [("[H][H]", [0, 0]), ("N#N", [0, 0]), ("[Ca+2]", [2])])
    def test_equal_atoms_exchange_nothing(self, smiles, expected):
        q = charges_of(self.made().parametrize(from_smiles(smiles)))
        torch.testing.assert_close(q, torch.tensor(expected, dtype=F64), rtol=0, atol=1e-12)

    def test_charge_moves_along_bonds_only(self):
        """Water: what the oxygen has, the hydrogens lack, half each. Bonds are the only ways."""
        q = charges_of(self.made().parametrize(from_smiles("O")))
        assert abs(float(q[0])) > 1e-3
        torch.testing.assert_close(q[1:], -0.5 * q[0].expand(2), rtol=0, atol=1e-12)

    def test_formal_charge_starts_on_its_pi_component(self):
        """With no increments, a carboxylate's charge lies on its oxygens and carbon, evenly, and not on the methyl."""
        torch.manual_seed(0)
        made = from_config(config("class1", setting("increments"))).double()
        with torch.no_grad():
            for key, weight in made.named_parameters():
                if "tuple.3" in key:
                    weight.zero_()
        molecule = from_smiles("[CH3][C](=[O])[O-]")
        q = charges_of(made.parametrize(molecule))
        heavy = molecule.numbers > 1
        assert float(q[heavy][1:].sum()) == pytest.approx(-1.0, abs=1e-6)
        assert q[heavy][2] == q[heavy][3]
        assert q[~heavy].abs().max() < 1e-6


PEPTIDE = "CC(=O)NCC(=O)NCC(=O)NCCCC"


def far_from_the_change(layers):
    """Heavy atoms of `PEPTIDE` more than `layers` + 1 bonds from the atom at its end, to which groups are added."""
    distances = Chem.GetDistanceMatrix(Chem.MolFromSmiles(PEPTIDE))[-1]
    return np.flatnonzero(distances > layers + 1)


@pytest.mark.parametrize("group", ["CC(=O)[O-]", "C[NH3+]", "NC(=O)C(CO)NC(C)=O", "c1ccc(S(=O)(=O)N)cc1"])
@pytest.mark.parametrize("charges", LEARNED)
def test_a_residue_or_group_far_away_does_not_change_an_increment_charge(charges, group):
    """The encoder sees `layers` bonds and an increment belongs to a bond; equilibration spreads over the molecule."""
    torch.manual_seed(0)
    made = from_config(config("class1", setting(charges))).double()
    with torch.no_grad():
        for key, weight in made.named_parameters():
            if "tuple.3" in key:
                weight.mul_(50.0)
    plain, changed = (charges_of(made.parametrize(from_smiles(smiles))) for smiles in (PEPTIDE + "C", PEPTIDE + group))
    far = far_from_the_change(len(made.encoder.convs))
    assert len(far) >= 8
    assert plain[far].std() > 0.1
    moved = (changed[far] - plain[far]).abs().max()
    if charges == "increments":
        assert moved < 1e-6  # features are single precision
    else:
        assert moved > 1e-4


class TestGiven:
    made = staticmethod(lambda: model("class1", setting("input")))
    WATER = np.array([-0.8, 0.4, 0.4])

    def test_reference_charges_in_training(self):
        batch = batch_of([from_smiles("O"), from_smiles("[Na+]")], F64)
        q = torch.tensor([-0.8, 0.4, 0.4, 1.0], dtype=F64)
        with torch.no_grad():
            charges = charges_of(self.made()(labelled(batch, ref_charge=q)))
        assert torch.equal(charges, q)
        missing = labelled(batch)
        with pytest.raises(ValueError, match="some molecules come without"):
            self.made()(missing)

    def test_the_users_in_parametrization(self):
        system = self.made().parametrize(from_smiles("O"), charges=self.WATER)
        assert charges_of(system).tolist() == self.WATER.tolist()
        several = self.made().parametrize([from_smiles("O"), from_smiles("[Na+]")], charges=[self.WATER, np.ones(1)])
        assert charges_of(several).tolist() == [*self.WATER.tolist(), 1.0]

    def test_none_given_is_an_error_that_says_which_and_what_to_do(self):
        with pytest.raises(ValueError, match=r"water: .*charges=.*--charges am1bcc"):
            self.made().parametrize(from_smiles("O", "water"))
        with pytest.raises(ValueError, match=r"^sodium: "):
            self.made().parametrize([from_smiles("O", "water"), from_smiles("[Na+]", "sodium")], [self.WATER, None])

    def test_there_is_nothing_to_learn(self):
        (head,) = [h for h in self.made().heads if type(h).__name__ == "GivenCharges"]
        assert list(head.parameters()) == []
        assert Kind.BOND in {term.kind for term in self.made().terms}
