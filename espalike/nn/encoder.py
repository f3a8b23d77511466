"""Atom features to atom representations."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from espalike.batch import Batch
from espalike.nn.orbits import Orbits


class Encoder(nn.Module):
    """Linear layer, then residual message passing with pre-normalisation.

    Args:
        conv: makes a layer from input and output width; the layer is called as `layer(h, edges)`. A layer whose
            attribute `local` is true, which says that an atom's new representation depends on its own and those at
            the other end of its incoming edges only, is given equal atoms as one.
        n_features: number of atom features.
        width: size of an atom's representation.
        layers: number of message-passing layers, hence the radius in bonds that an atom sees.
    """

    def __init__(self, conv: Callable[[int, int], nn.Module], n_features: int, width: int = 128, layers: int = 4):
        super().__init__()
        self.enter = nn.Linear(n_features, width)
        self.convs = nn.ModuleList(conv(width, width) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.leave = nn.LayerNorm(width)

    def orbits(self, batch: Batch) -> Orbits:
        """The batch's classes of equal atoms; each atom for itself where a layer looks beyond its neighbours."""
        return Orbits.of_batch(batch, len(self.convs), all(getattr(conv, "local", False) for conv in self.convs))

    def forward(self, x: Tensor, orbits: Orbits) -> Tensor:
        """Representations of the classes of atoms, shape `(C, width)`, from features of the atoms `(N, F)`."""
        h = self.enter(x.index_select(0, orbits.entry)).to(x.dtype)  # the sum of layers is not for autocast
        for conv, norm, hop in zip(self.convs, self.norms, orbits.hops, strict=True):
            h = h.index_select(0, hop.parent)
            h = h + nn.functional.silu(conv(norm(h), hop.edges))
        return self.leave(h)
