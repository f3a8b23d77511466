"""Message passing in plain torch: `conv(h, edges) -> h`. Parameter names are DGL's, so weights are interchangeable."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def mlp(n_in: int, n_out: int) -> nn.Sequential:
    """The two-layer perceptron inside GIN."""
    return nn.Sequential(nn.Linear(n_in, n_out), nn.SiLU(), nn.Linear(n_out, n_out))


def _sum_neighbours(h: Tensor, edges: Tensor) -> Tensor:
    return torch.zeros_like(h).index_add(0, edges[1], h.index_select(0, edges[0]))


class SAGE(nn.Module):
    """GraphSAGE with mean aggregation (W. Hamilton et al., NeurIPS 2017): W₁ hᵢ + W₂ mean hⱼ."""

    local = True

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.fc_neigh = nn.Linear(n_in, n_out, bias=False)
        self.fc_self = nn.Linear(n_in, n_out)

    def forward(self, h: Tensor, edges: Tensor) -> Tensor:
        """New atom representations `(N, n_out)`; an atom without neighbours has mean zero."""
        degree = torch.zeros(len(h), dtype=h.dtype, device=h.device).index_add(
            0, edges[1], torch.ones(edges.shape[1], dtype=h.dtype, device=h.device)
        )
        return self.fc_self(h) + self.fc_neigh(_sum_neighbours(h, edges) / degree.clamp_min(1.0).unsqueeze(-1))


class GIN(nn.Module):
    """Graph isomorphism network (K. Xu et al., ICLR 2019): MLP((1 + ε) hᵢ + Σ hⱼ)."""

    local = True
    eps: Tensor

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.apply_func = mlp(n_in, n_out)
        self.register_buffer("eps", torch.zeros(1))

    def forward(self, h: Tensor, edges: Tensor) -> Tensor:
        """New atom representations `(N, n_out)`."""
        return self.apply_func((1.0 + self.eps) * h + _sum_neighbours(h, edges))


class GAT(nn.Module):
    """Graph attention (P. Veličković et al., ICLR 2018), heads concatenated."""

    local = True

    def __init__(self, n_in: int, n_out: int, num_heads: int = 4, negative_slope: float = 0.2):
        super().__init__()
        if n_out % num_heads:
            raise ValueError(f"width {n_out} is not a multiple of {num_heads} attention heads")
        self.num_heads, self.negative_slope = num_heads, negative_slope
        self.fc = nn.Linear(n_in, n_out, bias=False)
        self.attn_l = nn.Parameter(torch.empty(1, num_heads, n_out // num_heads))
        self.attn_r = nn.Parameter(torch.empty(1, num_heads, n_out // num_heads))
        self.bias = nn.Parameter(torch.zeros(n_out))
        for weight in (self.fc.weight, self.attn_l, self.attn_r):
            nn.init.xavier_normal_(weight, gain=nn.init.calculate_gain("relu"))

    def forward(self, h: Tensor, edges: Tensor) -> Tensor:
        """New atom representations `(N, n_out)`."""
        source, target = edges
        z = self.fc(h).view(len(h), self.num_heads, -1)
        score = (z * self.attn_l).sum(-1).index_select(0, source) + (z * self.attn_r).sum(-1).index_select(0, target)
        score = nn.functional.leaky_relu(score, self.negative_slope)
        largest = torch.full((len(h), self.num_heads), -torch.inf, dtype=h.dtype, device=h.device)
        largest = largest.scatter_reduce(0, target.unsqueeze(-1).expand_as(score), score.detach(), "amax")
        weight = torch.exp(score - largest.index_select(0, target))
        norm = torch.zeros_like(largest).index_add(0, target, weight)
        message = z.index_select(0, source) * (weight / norm.index_select(0, target)).unsqueeze(-1)
        return message.new_zeros(z.shape).index_add(0, target, message).flatten(1) + self.bias
