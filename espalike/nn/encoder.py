"""Atom features to atom representations."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class Encoder(nn.Module):
    """Linear layer, then residual message passing with pre-normalisation.

    Args:
        conv: makes a layer from input and output width; the layer is called as `layer(h, edges)`.
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

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Representations, shape `(N, width)`, from features `(N, F)` and directed edges `(2, E)`."""
        h = self.enter(x).to(x.dtype)  # the sum of all layers stays in full precision under autocast
        for conv, norm in zip(self.convs, self.norms, strict=True):
            h = h + nn.functional.silu(conv(norm(h), edges))
        return self.leave(h)
