"""A system of several molecules, and one system for each of them."""

import torch

import espalike
from espalike.chem import from_smiles
from espalike.terms.base import PairTerm
from tests.molecules import DRUGLIKE


def test_split_gives_the_systems_of_single_molecules():
    model = espalike.load().double()
    molecules = [from_smiles(text) for text in ("CCO", "[Na+]", *DRUGLIKE[:4], "O", "CCO")]
    together = model.parametrize(molecules)
    explicit = together.between_components(torch.arange(len(together.numbers)))  # with pairs listed
    for parts, whole in ((together.split(), together), (explicit.split(), explicit)):
        assert [part.molecules for part in parts] == [(molecule,) for molecule in molecules]
        assert len(parts[0].terms) == len(whole.terms)
    for molecule, part, pairs in zip(molecules, together.split(), explicit.split(), strict=True):
        alone = model.parametrize(molecule)
        assert torch.equal(part.numbers, alone.numbers)
        assert part.n_mols == 1
        for one, two in zip(part.terms, alone.terms, strict=True):
            assert torch.equal(one.tuples.idx, two.tuples.idx)
            assert len(one.tuples) == len(two.tuples)
            torch.testing.assert_close(one.values, two.values, rtol=1e-10, atol=1e-10)
            if isinstance(one.term, PairTerm):
                assert torch.equal(one.tuples.is14, two.tuples.is14)
                assert torch.equal(pairs.bound(one.term.name).values, one.values)


def test_terms_on_the_same_pairs_share_them():
    first, second = espalike.load().parametrize([from_smiles("CCO"), from_smiles("CC")]).split()[1].terms[-2:]
    assert first.tuples is second.tuples
