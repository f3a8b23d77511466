"""Lennard-Jones 12-6."""

import torch
from torch import Tensor

from espalike.geometry import Distance
from espalike.terms import priors
from espalike.terms.base import PairTerm, Param


class LennardJones(PairTerm):
    """4 ε [(σ/r)¹² − (σ/r)⁶] with Lorentz–Berthelot mixing; 1-4 pairs scaled by `scale14` (Amber's ½)."""

    coordinates = (Distance(0, 1),)
    q_names = ("r",)
    params = (
        Param("sigma", "angstrom", mean=priors.lj_sigma, std=0.2, link="positive"),
        Param("epsilon", "kcal/mol", mean=priors.lj_epsilon, std=0.7, link="positive"),
    )
    expression = "4*epsilon*((sigma/r)^12-(sigma/r)^6)"
    native = "NonbondedForce"

    def __init__(self, scale14: float = 0.5):
        super().__init__(scale14)

    def combine(self, first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Arithmetic mean of sigma, geometric mean of epsilon."""
        (sigma_i, epsilon_i), (sigma_j, epsilon_j) = first, second
        return 0.5 * (sigma_i + sigma_j), torch.sqrt(epsilon_i * epsilon_j)

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        (r,), (sigma, epsilon) = q, p
        six = (sigma / r) ** 6
        return 4.0 * epsilon * (six * six - six)
