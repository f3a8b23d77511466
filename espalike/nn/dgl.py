"""Any `dgl.nn` convolution as a message-passing layer; needs the extra `dgl`."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from espalike.nn.convs import mlp

_LOCAL = ("SAGEConv", "GINConv", "GATConv", "GATv2Conv")
"""Convolutions that depend on neighbours only; `GraphConv`, for example, also depends on the neighbours' degrees."""


class _OverEdges:
    """A DGL convolution as a function of `(h, edges)` that returns one row per atom."""

    def forward(self, h: Tensor, edges: Tensor) -> Tensor:
        import dgl

        graph = dgl.graph((edges[0], edges[1]), num_nodes=len(h))
        return super().forward(graph, h).flatten(1)  # type: ignore[misc]


def convolution(n_in: int, n_out: int, name: str, **settings: Any) -> nn.Module:
    """The `dgl.nn` convolution called `name`, with parameter names (hence weights) as DGL has them.

    Attention heads share the width, as in `espalike.nn.convs.GAT`; convolutions that take an
    `apply_func` get the perceptron of `espalike.nn.convs.GIN`.

    Raises:
        ImportError: when DGL is not installed.
        ValueError: when `dgl.nn` has no such convolution.
    """
    try:
        import dgl.nn.pytorch.conv as convs
    except ImportError as error:
        raise ImportError("this model uses DGL; install it with: pip install 'espalike[dgl]' (Python 3.11)") from error
    base = getattr(convs, name, None)
    if not (inspect.isclass(base) and issubclass(base, nn.Module)):
        raise ValueError(f"dgl.nn has no convolution {name!r}")
    known = inspect.signature(base).parameters
    if "allow_zero_in_degree" in known:
        settings.setdefault("allow_zero_in_degree", True)
    adapted = type(f"DGL{name}", (_OverEdges, base), {"local": name in _LOCAL})
    if "apply_func" in known:
        return adapted(mlp(n_in, n_out), **settings)
    return adapted(n_in, n_out // settings.get("num_heads", 1), **settings)
