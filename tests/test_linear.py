"""Linear centres, features and parameters are those of the usual form, whichever resonance form is drawn."""

import numpy as np
import pytest
import torch
from rdkit import Chem

from espalike import chem
from espalike.cli.main import main
from espalike.features import featurize
from espalike.linear import linear_centres
from espalike.model import load
from espalike.topology import enumerate_tuples
from tests.lewis_forms import lewis_forms, smiles_of
from tests.nn.common import by_tuple

# indices of linear atoms of the usual form, hydrogens last
USUAL = {
    "CN=[N+]=[N-]": [2],
    "CC(=O)N=[N+]=[N-]": [4],
    "CS(=O)(=O)N=[N+]=[N-]": [5],
    "N#CN=[N+]=[N-]": [1, 3],
    "[N-]=[N+]=[N-]": [1],
    "C=[N+]=[N-]": [1],
    "COC(=O)C=[N+]=[N-]": [5],
    "O=C=C=[N+]=[N-]": [1, 2, 3],
    "C[N+]#N": [1],
    "CC#[N+][O-]": [1, 2],
    "CC#[N+][N-]C": [1, 2],
    "CC=[N+](C)[O-]": [],
    "CC=[N+](C)[CH-]C": [],
    "CC=[N+](C)[N-]C": [],
    "C[N+]#[C-]": [1],
    "[C-]#[O+]": [],
    "N#[N+][O-]": [1],
    "O=[O+][O-]": [],
    "CC=S=O": [],
    "C=[S+][CH2-]": [],
    "CS(C)=O": [],
    "CS(C)(=N)=O": [],
    "CN=S(=O)=O": [],
    "CP(C)(C)=C": [],
    "CP(C)(C)=O": [],
    "C[N+](C)(C)[O-]": [],
    "C[N+](=O)[O-]": [],
    "CN=[N+]([O-])C": [],
    "CN=C=O": [2],
    "CN=C=S": [2],
    "CN=C=NC": [2],
    "CC=C=O": [2],
    "C=C=C=O": [1, 2],
    "O=C=C=C=O": [1, 2, 3],
    "C[N-]N=C=O": [3],
    "[S-]C#N": [1],
    "N#C[N-]C#N": [1, 3],
    "N#C[CH-]C#N": [1, 3],
    "CC#[N+]C": [1, 2],
    "CN=[N+]=NC": [],
    "CN(C)C#CC=O": [3, 4],
}


@pytest.fixture(scope="module")
def model():
    return load().double()


@pytest.mark.parametrize("smiles", USUAL)
def test_no_resonance_form_changes_linear_centres_and_features(smiles):
    molecule = chem.from_smiles(smiles)
    forms = list(lewis_forms(molecule))
    assert any(np.array_equal(form.orders, molecule.orders) for form in forms)
    for form in forms:
        topology = enumerate_tuples(form.numbers, form.bonds, form.orders, form.charges)
        assert np.flatnonzero(topology.linear).tolist() == USUAL[smiles], form.orders
        usual = enumerate_tuples(molecule.numbers, molecule.bonds, molecule.orders, molecule.charges)
        assert np.array_equal(featurize(form, topology), featurize(molecule, usual)), form.orders


@pytest.mark.parametrize("smiles", USUAL)
def test_no_resonance_form_and_no_order_of_atoms_changes_parameters(smiles, model):
    molecule, rng = chem.from_smiles(smiles), np.random.default_rng(0)
    first = by_tuple(model.parametrize(molecule), np.arange(molecule.n_atoms))
    accepted = 0
    for form in lewis_forms(molecule):
        order = rng.permutation(molecule.n_atoms)
        try:
            drawn = chem.from_smiles(smiles_of(form, order))
        except chem.ChemistryError:  # RDKit knows no such state of an atom
            continue
        accepted += 1
        assert drawn.net_charge == molecule.net_charge
        second = by_tuple(model.parametrize(drawn), order)
        assert first.keys() == second.keys()
        assert max(float((first[k] - second[k]).abs().max()) for k in first) < 1e-9
    assert accepted


@pytest.mark.parametrize(
    ("usual", "drawn"),
    [
        ("[CH3][C]#[N+][CH3]", "[CH3][C+]=[N][CH3]"),
        ("[CH3][C]#[O+]", "[CH3][C+]=[O]"),
        ("[CH2]=[C]=[N+]([CH3])[CH3]", "[CH2]=[C+][N]([CH3])[CH3]"),
        ("[CH2]=[C]=[O+][CH3]", "[CH2]=[C+][O][CH3]"),
        ("[CH2]=[N+]=[N+]=[N-]", "[CH2+][N]=[N+]=[N-]"),
    ],
)
def test_a_carbocation_beside_a_lone_pair(usual, drawn):
    found = [
        linear_centres(one.numbers, one.bonds, one.orders, one.charges)
        for one in (chem.from_smiles(usual), chem.from_smiles(drawn))
    ]
    assert np.array_equal(*found)


def test_the_drawn_form_is_written(model, tmp_path):
    """Files keep the bonds, charges and stereo of the user."""
    drawn, usual = chem.from_smiles("C[C@H](F)[N-][N+]#N", "azide"), chem.from_smiles("C[C@H](F)N=[N+]=[N-]")
    for a, b in zip(model.parametrize(drawn).terms, model.parametrize(usual).terms, strict=True):
        torch.testing.assert_close(a.values, b.values, rtol=0, atol=1e-9)
    (tmp_path / "azide.smi").write_text("C[C@H](F)[N-][N+]#N azide\n")
    assert main(["parametrize", str(tmp_path / "azide.smi"), "--out", str(tmp_path / "out")]) == 0
    (written,) = Chem.SDMolSupplier(str(tmp_path / "out" / "azide.sdf"))
    assert Chem.MolToSmiles(written) == "C[C@H](F)[N-][N+]#N"
