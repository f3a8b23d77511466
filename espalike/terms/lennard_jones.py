"""Lennard-Jones 12-6."""

from torch import Tensor

from espalike.terms.van_der_waals import EPSILON, SIGMA, VanDerWaals


class LennardJones(VanDerWaals):
    """4 ε [(σ/r)¹² − (σ/r)⁶]; 1-4 pairs scaled by `scale14` (Amber's ½)."""

    params = (SIGMA, EPSILON)
    expression = "4*epsilon*((sigma/r)^12-(sigma/r)^6)"
    native = "NonbondedForce"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        (r,), (sigma, epsilon) = q, p
        six = (sigma / r) ** 6
        return 4.0 * epsilon * (six * six - six)

    def slopes(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As in `Term.slopes`, as A/r¹² − B/r⁶: what depends on distances alone carries no gradient."""
        (r,), (sigma, epsilon) = q, p
        inverse = 1.0 / (r * r)
        r6, size6 = inverse * inverse * inverse, sigma**6
        b = 4.0 * epsilon * size6
        repulsion = b * size6 * r6
        return (repulsion - b) * r6, ((b - 2.0 * repulsion) * (6.0 * r6 / r),)
