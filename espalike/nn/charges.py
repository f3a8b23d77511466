"""Partial charges by charge equilibration with learned electronegativity and hardness."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from espalike.nn.heads import SymmetricHead
from espalike.terms.base import NONE


def equilibrate(electronegativity: Tensor, hardness: Tensor, mol: Tensor, net_charge: Tensor) -> Tensor:
    """Charges [e] that minimise Σ eᵢ qᵢ + ½ sᵢ qᵢ² with Σ qᵢ = Q in each molecule, in float64.

    M. K. Gilson, H. S. R. Gilson, M. J. Potter, J. Chem. Inf. Comput. Sci. 43 (2003) 1982:
    qᵢ = −eᵢ/sᵢ + (1/sᵢ) (Q + Σ eⱼ/sⱼ) / Σ (1/sⱼ).

    Args:
        electronegativity: eᵢ [per e], shape `(N,)`.
        hardness: sᵢ > 0 [per e²], shape `(N,)`.
        mol: molecule of each atom, shape `(N,)`.
        net_charge: Q [e], shape `(M,)`.
    """
    e, softness = electronegativity.double(), 1.0 / hardness.double()
    total = net_charge.double()

    def per_molecule(values: Tensor) -> Tensor:
        return torch.zeros_like(total).index_add(0, mol, values)

    potential = (total + per_molecule(e * softness)) / per_molecule(softness)
    return softness * (potential[mol] - e)


class ChargeHead(nn.Module):
    """Electronegativity and hardness from atom representations, equilibrated to the formal charge."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.head = SymmetricHead(1, 2, width, hidden, NONE)

    def forward(self, h: Tensor, mol: Tensor, net_charge: Tensor) -> Tensor:
        """Charges [e], float64, shape `(N, 1)`, summing to the net charge of each molecule."""
        raw = self.head(h, torch.arange(len(h), device=h.device).unsqueeze(-1))
        hardness = nn.functional.softplus(raw[:, 1] + 0.5413) + 0.05  # one at raw = 0
        return equilibrate(raw[:, 0], hardness, mol, net_charge).unsqueeze(-1)
