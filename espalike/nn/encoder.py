"""Atom representations from atom features."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from espalike.batch import Batch
from espalike.nn.orbits import Orbits


class Encoder(nn.Module):
    """Linear layer, then residual message passing with pre-normalisation.

    Args:
        conv: makes a layer from input and output width; the layer is called as `layer(h, edges)`. A layer whose
            attribute `local` is true promises that an atom's new representation depends on its present one and on
            those at the other ends of its incoming edges only; it is given equal atoms as one.
        n_features: number of atom features.
        width: size of an atom's representation.
        layers: number of message-passing layers, hence the radius in bonds that an atom sees.

    Raises:
        ValueError: when a layer promises to be local and is not, or depends on the numbering or on other molecules.
    """

    def __init__(self, conv: Callable[[int, int], nn.Module], n_features: int, width: int = 128, layers: int = 4):
        super().__init__()
        self.enter = nn.Linear(n_features, width)
        self.convs = nn.ModuleList(conv(width, width) for _ in range(layers))
        if self.convs:
            check_invariance(self.convs[0], width)
        if self.convs and _is_local(self.convs[0]):
            check_local(self.convs[0], width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.leave = nn.LayerNorm(width)

    def orbits(self, batch: Batch) -> Orbits:
        """The batch's classes of equal atoms; each atom is a class where a layer depends on more than neighbours."""
        return Orbits.of_batch(batch, len(self.convs), all(map(_is_local, self.convs)))

    def forward(self, x: Tensor, orbits: Orbits) -> Tensor:
        """Representations of the classes of atoms, shape `(C, width)`, from features of the atoms `(N, F)`."""
        h = self.enter(x.index_select(0, orbits.entry)).to(x.dtype)  # the sum of layers is not for autocast
        for conv, norm, hop in zip(self.convs, self.norms, orbits.hops, strict=True):
            h = h.index_select(0, hop.parent)
            h = h + nn.functional.silu(conv(norm(h), hop.edges))
        return self.leave(h)


def _is_local(conv: nn.Module) -> bool:
    return getattr(conv, "local", False)


@torch.no_grad()
def check_invariance(conv: nn.Module, width: int) -> None:
    """Check that a layer's output is one row per atom that depends neither on numbering nor on other molecules.

    Raises:
        ValueError: where this does not hold; the message names the layer's class.
    """
    n, training, name = 7, conv.training, type(conv).__name__
    conv.eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        h = torch.randn(2 * n, width)
        chain = torch.stack([torch.arange(n - 1), torch.arange(1, n)])
        first = torch.cat([chain, torch.tensor([[0, 1], [2, 5]])], 1)  # a molecule with rings, and a chain beside it
        both = torch.cat([first, chain + n], 1)
        order = torch.randperm(n)
        alone, beside, renumbered = (
            conv(rows, torch.cat([bonds, bonds.flip(0)], 1))
            for rows, bonds in ((h[:n], first), (h, both), (h[:n][order], order.argsort()[first]))
        )
    conv.train(training)
    if alone.shape != (n, width):
        raise ValueError(
            f"{name}: expected an output of shape {(n, width)}, one row per atom; got {tuple(alone.shape)}"
        )
    for other, what in ((renumbered, "with the numbering"), (beside[:n][order], "with another molecule beside it")):
        if not torch.allclose(other, alone[order], rtol=1e-4, atol=1e-5):
            raise ValueError(
                f"{name}: an atom's output changes {what}; expected the same for the same atoms and bonds, "
                "since parameters must depend on the molecule alone"
            )


@torch.no_grad()
def check_local(conv: nn.Module, width: int) -> None:
    """Check that a layer's output at an atom depends on the atom and its neighbours only, on a random graph.

    The other atoms get other representations and other bonds, which must not matter.

    Raises:
        ValueError: where it does; the message names the layer's class.
    """
    n, near, training = 12, 4, conv.training  # atom 0 has the neighbours 1, 2 and 3
    conv.eval()
    with torch.random.fork_rng(devices=[]):  # weights that are drawn later stay those of the seed
        torch.manual_seed(0)
        first, second = torch.randn(2, n, width)
        second[:near] = first[:near]
        star = torch.stack([torch.zeros(near - 1, dtype=torch.long), torch.arange(1, near)])
        others = torch.combinations(torch.arange(1, n))
        outputs = []
        for h in (first, second):
            bonds = torch.cat([star, others[torch.rand(len(others)) < 0.3].T], 1)
            outputs.append(conv(h, torch.cat([bonds, bonds.flip(0)], 1))[0])
    conv.train(training)
    if not torch.allclose(outputs[0], outputs[1], rtol=1e-4, atol=1e-5):
        raise ValueError(
            f"{type(conv).__name__} promises local = True, but on a random graph an atom's output changes with atoms "
            "that are not its neighbours; remove the promise, or let the output depend on the atom and its neighbours"
        )
