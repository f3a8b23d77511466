"""Expected parameter values from elements and neighbour counts alone, the values of an untrained model."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

# Lennard-Jones sigma [Å] and epsilon [kcal/mol]. Typical OpenFF 2.2.1 values; B, Si, Mg, Ca, Zn from UFF
# (A. K. Rappé et al., J. Am. Chem. Soc. 114 (1992) 10024).
_LJ = {
    1: (2.60, 0.016), 5: (3.64, 0.18), 6: (3.39, 0.10), 7: (3.25, 0.17), 8: (3.05, 0.19), 9: (3.12, 0.06),
    12: (2.69, 0.111), 14: (3.83, 0.40), 15: (3.74, 0.20), 16: (3.56, 0.25), 17: (3.31, 0.27),
    20: (3.03, 0.238), 30: (2.46, 0.124), 35: (3.96, 0.32), 53: (4.19, 0.40),
}  # fmt: skip
# Monatomic ions: I. S. Joung, T. E. Cheatham, J. Phys. Chem. B 112 (2008) 9020, TIP3P set.
_LJ_ION = {
    3: (1.826, 0.0280), 11: (2.439, 0.0874), 19: (3.038, 0.1937), 9: (4.103, 0.00336), 17: (4.478, 0.0356),
    35: (4.647, 0.0587), 53: (5.096, 0.0537),
}  # fmt: skip
_MAX_Z = 119


@cache
def _covalent_radii() -> Tensor:
    from rdkit.Chem import GetPeriodicTable

    table = GetPeriodicTable()
    return torch.tensor([0.0] + [table.GetRcovalent(z) for z in range(1, _MAX_Z)], dtype=torch.float64, device="cpu")


@cache
def _lj_table(column: int) -> Tensor:
    """Sigma (0) or epsilon (1) of an atom without and with neighbours, by element; NaN where it is not known."""
    # models were trained with values of this precision
    table = torch.full((2, _MAX_Z), torch.nan, dtype=torch.float32, device="cpu")
    for row, values in enumerate(({**_LJ, **_LJ_ION}, {**_LJ_ION, **_LJ})):
        for z, value in values.items():
            table[row, z] = value[column]
    return table.double()


def bond_length(numbers: Tensor, degrees: Tensor) -> Tensor:
    """Sum of covalent radii [Å] (B. Cordero et al., Dalton Trans. (2008) 2832)."""
    return _covalent_radii().to(numbers.device)[numbers].sum(-1)


def bond_angle(numbers: Tensor, degrees: Tensor) -> Tensor:
    """Equilibrium angle [rad] by the central atom's element and neighbour count."""
    z, degree = numbers[:, 1], degrees[:, 1]
    angle = torch.full(z.shape, 109.5, dtype=torch.float64, device=z.device)
    angle[(degree == 3) & ((z == 6) | (z == 5))] = 119.5
    angle[(degree == 3) & (z == 7)] = 115.0
    angle[(degree == 3) & ((z == 15) | (z == 16))] = 101.0
    angle[(degree == 2) & (z == 6)] = 174.0
    angle[(degree == 2) & (z == 7)] = 115.0
    angle[(degree == 2) & (z == 8)] = 110.0
    angle[(degree == 2) & (z == 16)] = 98.0
    return torch.deg2rad(angle)


def lj_sigma(numbers: Tensor, degrees: Tensor) -> Tensor:
    """Lennard-Jones sigma [Å] by element; monatomic ions have other values."""
    return _lj_table(0).to(numbers.device)[(degrees[:, 0] > 0).long(), numbers[:, 0]]


def lj_epsilon(numbers: Tensor, degrees: Tensor) -> Tensor:
    """Lennard-Jones epsilon [kcal/mol] by element; monatomic ions have other values."""
    return _lj_table(1).to(numbers.device)[(degrees[:, 0] > 0).long(), numbers[:, 0]]


def distance_13(numbers: Tensor, degrees: Tensor) -> Tensor:
    """Distance [Å] of the outer atoms of an angle at the expected bond lengths and angle."""
    a, b = bond_length(numbers[:, :2], degrees[:, :2]), bond_length(numbers[:, 1:], degrees[:, 1:])
    return torch.sqrt(a * a + b * b - 2.0 * a * b * torch.cos(bond_angle(numbers, degrees)))


BOND_CENTRES = (0.4, 3.2)
"""Fixed centres of a linear mixture of bonds [Å], below and above every bond length."""
ANGLE_CENTRES = (0.6, 3.141592653589793)
"""Fixed centres of a linear mixture of angles [rad]."""
_BOND_K, _ANGLE_K = 700.0, 110.0  # sums of the two force constants of a mixture


def _share(value: Tensor, centres: tuple[float, float]) -> Tensor:
    """Weight of the upper centre when the weighted mean of both is the value."""
    low, high = centres
    return ((value - low) / (high - low)).clamp(0.01, 0.99)


def bond_mixture_low(numbers: Tensor, degrees: Tensor) -> Tensor:
    """Force constant at the lower centre [kcal/mol/Å²]."""
    return _BOND_K * (1.0 - _share(bond_length(numbers, degrees), BOND_CENTRES))


def bond_mixture_high(numbers: Tensor, degrees: Tensor) -> Tensor:
    """Force constant at the upper centre [kcal/mol/Å²]."""
    return _BOND_K * _share(bond_length(numbers, degrees), BOND_CENTRES)


def angle_mixture_low(numbers: Tensor, degrees: Tensor) -> Tensor:
    """Force constant at the lower centre [kcal/mol]."""
    return _ANGLE_K * (1.0 - _share(bond_angle(numbers, degrees), ANGLE_CENTRES))


def angle_mixture_high(numbers: Tensor, degrees: Tensor) -> Tensor:
    """Force constant at the upper centre [kcal/mol]."""
    return _ANGLE_K * _share(bond_angle(numbers, degrees), ANGLE_CENTRES)
