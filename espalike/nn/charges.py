"""Partial charges that sum to the formal charge of each component: equilibration, increments along bonds, or given."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from espalike.batch import Batch, LabelledBatch
from espalike.features import FEATURES
from espalike.nn.heads import SymmetricHead
from espalike.nn.orbits import Orbits
from espalike.terms.base import NONE, Op
from espalike.tuples import Kind

_SHARE = FEATURES.index("pi_charge_share")


def equilibrate(electronegativity: Tensor, hardness: Tensor, component: Tensor, component_charge: Tensor) -> Tensor:
    """Charges [e] that minimise Σ eᵢ qᵢ + ½ sᵢ qᵢ² with Σ qᵢ = Q in each connected component, in float64.

    M. K. Gilson, H. S. R. Gilson, M. J. Potter, J. Chem. Inf. Comput. Sci. 43 (2003) 1982:
    qᵢ = −eᵢ/sᵢ + (1/sᵢ) (Q + Σ eⱼ/sⱼ) / Σ (1/sⱼ).

    Args:
        electronegativity: eᵢ [per e], shape `(N,)`.
        hardness: sᵢ > 0 [per e²], shape `(N,)`.
        component: connected component of each atom, shape `(N,)`: no charge flows from one to another.
        component_charge: Q [e], shape `(C,)`.
    """
    e, softness = electronegativity.double(), 1.0 / hardness.double()
    total = component_charge.double()

    def summed(values: Tensor) -> Tensor:
        return torch.zeros_like(total).index_add(0, component, values)

    potential = (total + summed(e * softness)) / summed(softness)
    return softness * (potential[component] - e)


class Equilibration(nn.Module):
    """Electronegativity and hardness from atom representations, equilibrated to the formal charge."""

    def __init__(self, width: int, hidden: int, readout: str = "deep"):
        super().__init__()
        self.head = SymmetricHead(1, 2, width, hidden, NONE, readout)

    def forward(self, h: Tensor, batch: Batch, orbits: Orbits) -> Tensor:
        """Charges [e], float64, shape `(N, 1)`, summing to the net charge of each connected component."""
        raw = self.head(h, torch.arange(len(h), device=h.device).unsqueeze(-1)).index_select(0, orbits.of)
        hardness = nn.functional.softplus(raw[:, 1] + 0.5413) + 0.05  # one at raw = 0
        return equilibrate(raw[:, 0], hardness, batch.component, batch.component_charge).unsqueeze(-1)


class Increments(nn.Module):
    """Formal charges, spread over their π components, moved along bonds by an antisymmetric function of the two atoms.

    The charge that bond (i, j) gives to atom i is taken from atom j, as in MMFF94 (T. A. Halgren, J. Comput. Chem. 17
    (1996) 520), so the sum is the formal charge for any output of the network.
    """

    def __init__(self, width: int, hidden: int, readout: str = "deep"):
        super().__init__()
        self.head = SymmetricHead(2, 1, width, hidden, (Op((0, 1)), Op((1, 0), signs=(-1,))), readout)

    def forward(self, h: Tensor, batch: Batch, orbits: Orbits) -> Tensor:
        """Charges [e], float64, shape `(N, 1)`, summing to the net charge of each connected component."""
        idx = batch.tuples[Kind.BOND].idx
        bonds, inverse = orbits.distinct(idx, self.head.orders)
        moved = self.head(h, bonds, orbits)[:, 0].double().index_select(0, inverse)
        base = batch.x[:, _SHARE].double()
        total, component = batch.component_charge.double(), batch.component
        size = torch.bincount(component, minlength=len(total))
        rest = total - torch.zeros_like(total).index_add(0, component, base)
        base = base + (rest / size)[component]  # features are single precision
        return base.index_add(0, idx[:, 0], moved).index_add(0, idx[:, 1], -moved).unsqueeze(-1)


class GivenCharges(nn.Module):
    """Charges that come with the molecule: reference charges in training, the user's in parametrization."""

    def __init__(self, width: int, hidden: int, readout: str = "deep"):
        super().__init__()

    def forward(self, h: Tensor, batch: Batch, orbits: Orbits) -> Tensor:
        """Charges [e], float64, shape `(N, 1)`; zero in a batch that carries none, to be replaced by the user's.

        Raises:
            ValueError: when conformers are to be scored and an atom has no charge.
        """
        if not isinstance(batch, LabelledBatch):
            return torch.zeros(len(batch.numbers), 1, dtype=torch.float64, device=h.device)
        if not batch.ref_charge.isfinite().all():
            raise ValueError(
                "the force field takes given charges, but some molecules come without; ingest with reference=openff"
            )
        return batch.ref_charge.double().unsqueeze(-1)


CHARGE_HEADS: dict[str, type[nn.Module]] = {
    "equilibration": Equilibration,
    "increments": Increments,
    "input": GivenCharges,
}
"""Charge models by the name `Coulomb` calls them."""
