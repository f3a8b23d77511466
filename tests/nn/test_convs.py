"""Torch convolutions against DGL's, weights exchanged; and against dense matrices."""

import pytest
import torch

from espalike.batch import batch_of
from espalike.chem import from_smiles
from espalike.features import FEATURES
from espalike.nn.convs import GAT, GIN, SAGE
from espalike.nn.encoder import Encoder, check_local

TWINS = [
    (SAGE, "SAGEConv", {"aggregator_type": "mean"}),
    (GIN, "GINConv", {}),
    (GAT, "GATConv", {"num_heads": 4}),
]


def graph(n=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    upper = torch.triu_indices(n - 1, n - 1, 1)  # the last atom has no neighbour
    bonds = upper[:, torch.rand(upper.shape[1], generator=generator) < 0.5]
    return torch.randn(n, 16, generator=generator, dtype=torch.float64), torch.cat([bonds, bonds.flip(0)], 1)


@pytest.mark.parametrize(("ours", "name", "settings"), TWINS, ids=[t[1] for t in TWINS])
def test_equals_dgl_with_the_same_weights(ours, name, settings):
    pytest.importorskip("dgl", reason="needs the extra dgl")
    from espalike.nn.dgl import convolution

    twin, layer = convolution(16, 16, name, **settings).double(), ours(16, 16).double()
    layer.load_state_dict(twin.state_dict())
    h, edges = graph()
    torch.testing.assert_close(layer(h, edges), twin(h, edges), rtol=1e-6, atol=1e-6)
    twin.load_state_dict(ours(16, 16).state_dict())  # and the other way round


def test_dgl_names_what_it_does_not_have():
    pytest.importorskip("dgl", reason="needs the extra dgl")
    from espalike.nn.dgl import convolution

    with pytest.raises(ValueError, match="no convolution 'SageConv'"):
        convolution(4, 4, "SageConv")


def test_any_dgl_convolution_fits_the_encoder():
    pytest.importorskip("dgl", reason="needs the extra dgl")
    from functools import partial

    from espalike.nn.dgl import convolution

    batch = batch_of([from_smiles("CCO"), from_smiles("CC")], torch.float64)
    equal = {"GraphConv": 17, "TAGConv": 17, "GATv2Conv": 8}  # the former two look at more than neighbours
    for name, settings in [("GraphConv", {}), ("TAGConv", {"k": 2}), ("GATv2Conv", {"num_heads": 2})]:
        encoder = Encoder(partial(convolution, name=name, **settings), len(FEATURES), width=8, layers=2).double()
        assert encoder(batch.x, encoder.orbits(batch)).shape == (equal[name], 8)


@pytest.mark.parametrize("ours", [SAGE, GIN, GAT])
def test_permutation_of_atoms_permutes_the_output(ours):
    layer, (h, edges) = ours(16, 16).double(), graph()
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    place = order.argsort()
    torch.testing.assert_close(layer(h[order], place[edges]), layer(h, edges)[order], rtol=1e-12, atol=1e-12)


def test_sage_is_the_mean_over_neighbours():
    layer, (h, edges) = SAGE(16, 16).double(), graph()
    adjacency = torch.zeros(7, 7, dtype=torch.float64)
    adjacency[edges[1], edges[0]] = 1.0
    mean = adjacency @ h / adjacency.sum(1, keepdim=True).clamp_min(1.0)
    torch.testing.assert_close(layer(h, edges), layer.fc_self(h) + mean @ layer.fc_neigh.weight.T)


class TestPromiseOfLocality:
    """A layer's `local = True` is checked when it becomes part of a network."""

    class Normalised(SAGE):
        """Looks also at how many neighbours its neighbours have."""

        def forward(self, h, edges):
            degree = torch.bincount(edges[0], minlength=len(h)).clamp_min(1).unsqueeze(-1)
            return super().forward(h / degree.sqrt(), edges)

    class Pooled(SAGE):
        """Looks at all atoms."""

        def forward(self, h, edges):
            return super().forward(h, edges) + h.mean(0)

    @pytest.mark.parametrize("conv", [Normalised, Pooled])
    def test_a_false_promise_is_refused(self, conv):
        with pytest.raises(ValueError, match=f"{conv.__name__} promises local = True, but"):
            check_local(conv(8, 8), 8)

    def test_without_the_promise_a_layer_may_look_farther(self):
        honest = type("Honest", (self.Normalised,), {"local": False})
        assert len(Encoder(honest, len(FEATURES), width=8, layers=2).convs) == 2

    @pytest.mark.parametrize("conv", [SAGE, GIN, GAT])
    def test_a_true_promise_draws_no_random_numbers(self, conv):
        states = []
        for local in (True, False):
            torch.manual_seed(0)
            Encoder(type("Conv", (conv,), {"local": local}), len(FEATURES), width=8, layers=1)
            states.append(torch.random.get_rng_state())
        assert torch.equal(*states)


class Numbered(SAGE):
    """Looks at the number of an atom."""

    local = False

    def forward(self, h, edges):
        return super().forward(h, edges) + torch.arange(len(h))[:, None] / len(h)


class Directed(SAGE):
    """Takes the bonds in one direction alone."""

    local = False

    def forward(self, h, edges):
        return super().forward(h, edges[:, edges[0] < edges[1]])


class OfTheBatch(SAGE):
    """Subtracts the mean over all atoms, of whichever molecule."""

    local = False

    def forward(self, h, edges):
        return super().forward(h - h.mean(0), edges)


@pytest.mark.parametrize(
    ("conv", "message"), [(Numbered, "the numbering"), (Directed, "the numbering"), (OfTheBatch, "another molecule")]
)
def test_layers_that_look_at_more_than_the_molecule_are_refused(conv, message):
    with pytest.raises(ValueError, match=f"{conv.__name__}: an atom's output changes with {message}"):
        Encoder(conv, len(FEATURES), width=8, layers=2)


class Twice(SAGE):
    """Gives twice as many numbers as it should."""

    def forward(self, h, edges):
        return super().forward(h, edges).repeat(1, 2)


def test_a_layer_of_another_width_is_refused():
    with pytest.raises(
        ValueError, match=r"Twice: expected an output of shape \(7, 8\), one row per atom; got \(7, 16\)"
    ):
        Encoder(Twice, len(FEATURES), width=8, layers=2)


def test_attention_heads_must_share_the_width():
    with pytest.raises(ValueError, match="not a multiple"):
        GAT(16, 18)
