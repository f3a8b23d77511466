"""Primitives, the parts of functional forms: each with its energy, its slopes and its OpenMM expression.

A term states its primitives (`Term.primitives`); energies, forces and every file format follow from them. Parameters
are tensors that broadcast over the tuples, `(T, 1)` in energies and `(T,)` in exports, or plain numbers where a form
fixes them. Coordinates `q` are `(T, K)` [Å, rad], energies `(T, K)` [kcal/mol]. Primitives with cosines of dihedrals
are in `espalike.terms.fourier`.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from espalike.units import COULOMB

Value = Tensor | float
"""A parameter of each tuple, or one number for all of them."""
Slopes = tuple[Tensor, tuple[Tensor, ...]]
"""Energy and its derivatives by the coordinates."""

_STEEPEST = 1.0 - 1e-9
"""Sine of the largest out-of-plane angle that has a slope."""


def differentiated(energy: Callable[[tuple[Tensor, ...]], Tensor], q: tuple[Tensor, ...]) -> Slopes:
    """Energies and their derivatives by the coordinates, by autograd.

    With gradients enabled, both are functions of the parameters.
    """
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        leaves = tuple(value.detach().requires_grad_() for value in q)
        u = energy(leaves)
        slopes = torch.autograd.grad(u.sum(), leaves, create_graph=graph, allow_unused=True, materialize_grads=True)
    return (u, slopes) if graph else (u.detach(), slopes)


class Primitive(ABC):
    """A part of a functional form. Subclasses are dataclasses whose fields are coordinates and parameters.

    Attributes:
        q: position of its coordinate among `Term.coordinates`, or positions of several.
    """

    q: int | tuple[int, ...]

    @property
    def indices(self) -> tuple[int, ...]:
        """Positions of its coordinates among `Term.coordinates`."""
        return self.q if isinstance(self.q, tuple) else (self.q,)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its coordinates in `expression`: q, or q1, q2, …"""
        return tuple(f"q{n}" for n in range(1, len(self.q) + 1)) if isinstance(self.q, tuple) else ("q",)

    @property
    @abstractmethod
    def expression(self) -> str:
        """Energy [kcal/mol] in OpenMM's syntax, in the `names` of coordinates and of `columns()`."""

    @abstractmethod
    def energy(self, q: tuple[Tensor, ...]) -> Tensor:
        """Energies [kcal/mol] `(T, K)` from its coordinates, each `(T, K)`."""

    def slopes(self, q: tuple[Tensor, ...]) -> Slopes:
        """Energies and their derivatives by its coordinates, each `(T, K)`."""
        return differentiated(self.energy, q)

    def columns(self) -> dict[str, Value]:
        """Parameters by the names they have in `expression`: fields, those of a tuple numbered from 1."""
        result: dict[str, Value] = {}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, tuple):
                result |= {f"{field.name}{n}": v for n, v in enumerate(value, 1) if isinstance(v, Tensor | float)}
            elif isinstance(value, Tensor | float):
                result[field.name] = value
        return result


def total_energy(primitives: Iterable[Primitive], q: tuple[Tensor, ...]) -> Tensor:
    """Summed energies [kcal/mol] `(T, K)` of primitives, from all coordinates of their term."""
    first, *others = (primitive.energy(tuple(q[i] for i in primitive.indices)) for primitive in primitives)
    return sum(others, first)


def total_slopes(primitives: Iterable[Primitive], q: tuple[Tensor, ...]) -> Slopes:
    """Summed energies of primitives and their derivatives by all coordinates of their term."""
    total: Tensor | None = None
    slopes: list[Tensor | None] = [None] * len(q)
    for primitive in primitives:
        u, parts = primitive.slopes(tuple(q[i] for i in primitive.indices))
        total = u if total is None else total + u
        for i, part in zip(primitive.indices, parts, strict=True):
            before = slopes[i]
            slopes[i] = part if before is None else before + part
    if total is None:
        raise ValueError("a term has at least one primitive")
    return total, tuple(torch.zeros_like(x) if slope is None else slope for slope, x in zip(slopes, q, strict=True))


@dataclass(frozen=True, eq=False)
class Harmonic(Primitive):
    """½ k (q − q₀)²."""

    q: int
    k: Value
    q0: Value

    expression = "0.5*k*(q-q0)^2"

    def energy(self, q: tuple[Tensor, ...]) -> Tensor:
        """Energies [kcal/mol]."""
        return 0.5 * self.k * (q[0] - self.q0) ** 2

    def slopes(self, q: tuple[Tensor, ...]) -> Slopes:
        """Energies and slopes."""
        d = q[0] - self.q0
        slope = self.k * d
        return 0.5 * slope * d, (slope,)


@dataclass(frozen=True, eq=False)
class Polynomial(Primitive):
    """c₂ d² + c₃ d³ + c₄ d⁴, d = q − q₀; a power that the form lacks is None."""

    q: int
    q0: Value
    c2: Value
    c3: Value | None = None
    c4: Value | None = None

    @property
    def powers(self) -> dict[int, Value]:
        """Coefficients by power."""
        return {n: c for n, c in ((2, self.c2), (3, self.c3), (4, self.c4)) if c is not None}

    @property
    def expression(self) -> str:
        """Energy [kcal/mol] in OpenMM's syntax."""
        factors = ["", "*(q-q0)", "*(q-q0)^2"]
        return "(" + "+".join(f"c{n}{factors[n - 2]}" for n in self.powers) + ")*(q-q0)^2"

    def energy(self, q: tuple[Tensor, ...]) -> Tensor:
        """Energies [kcal/mol], by Horner's scheme."""
        d = q[0] - self.q0
        inner: Value = 0.0
        for n in (4, 3, 2):
            inner = inner * d + self.powers.get(n, 0.0)
        return inner * d * d

    def slopes(self, q: tuple[Tensor, ...]) -> Slopes:
        """Energies and slopes."""
        d = q[0] - self.q0
        inner, slope = torch.zeros_like(d), torch.zeros_like(d)
        for n in (4, 3, 2):
            c = self.powers.get(n)
            if c is None:
                inner, slope = inner * d, slope * d
            else:
                inner, slope = inner * d + c, slope * d + n * c
        return inner * d * d, (slope * d,)


@dataclass(frozen=True, eq=False)
class Morse(Primitive):
    """D (1 − e^(−a (q − q₀)))² (P. M. Morse, Phys. Rev. 34 (1929) 57)."""

    q: int
    q0: Value
    depth: Value
    a: Value

    expression = "depth*(1-exp(-a*(q-q0)))^2"

    def energy(self, q: tuple[Tensor, ...]) -> Tensor:
        """Energies [kcal/mol]."""
        return self.depth * (1.0 - torch.exp(-self.a * (q[0] - self.q0))) ** 2

    def slopes(self, q: tuple[Tensor, ...]) -> Slopes:
        """Energies and slopes."""
        e = torch.exp(-self.a * (q[0] - self.q0))
        rise = self.depth * (1.0 - e)
        return rise * (1.0 - e), (2.0 * self.a * rise * e,)


@dataclass(frozen=True, eq=False)
class CosineHarmonic(Primitive):
    """½ k (cos q − cos q₀)²."""

    q: int
    k: Value
    q0: Tensor

    expression = "0.5*k*(cos(q)-cos(q0))^2"

    def energy(self, q: tuple[Tensor, ...]) -> Tensor:
        """Energies [kcal/mol]."""
        return 0.5 * self.k * (torch.cos(q[0]) - torch.cos(self.q0)) ** 2

    def slopes(self, q: tuple[Tensor, ...]) -> Slopes:
        """Energies and slopes."""
        d = torch.cos(q[0]) - torch.cos(self.q0)
        kd = self.k * d
        return 0.5 * kd * d, (-kd * torch.sin(q[0]),)


@dataclass(frozen=True, eq=False)
class OutOfPlane(Primitive):
    """½ k χ², χ the mean of the three Wilson out-of-plane angles of a trigonal centre.

    The angle χ_l between bond c–l and the plane of i, c, k obeys sin χ_l = sin θ(l,c,i) sin φ(l,c,i,k), φ being the
    dihedral about c–i (E. B. Wilson, J. C. Decius, P. C. Cross, Molecular Vibrations (1955), ch. 4). Each l is taken
    with i, k in cyclic order, so that the three have one sign.

    Attributes:
        q: positions of θ and φ of each of the three.
        k: force constant [kcal/mol].
    """

    q: tuple[int, ...]
    k: Value

    expression = "k/18*(asin(sin(q1)*sin(q2))+asin(sin(q3)*sin(q4))+asin(sin(q5)*sin(q6)))^2"

    def energy(self, q: tuple[Tensor, ...]) -> Tensor:
        """Energies [kcal/mol]."""
        sines = (torch.sin(theta) * torch.sin(phi) for theta, phi in zip(q[::2], q[1::2], strict=True))
        # at 90° out of plane the slope of the arc sine is infinite
        chi = torch.stack([torch.asin(s.clamp(-_STEEPEST, _STEEPEST)) for s in sines]).mean(0)
        return self.k * (0.5 * chi * chi)


@dataclass(frozen=True, eq=False)
class TwelveSix(Primitive):
    """4 ε [(σ/q)¹² − (σ/q)⁶], Lennard-Jones."""

    q: int
    sigma: Tensor
    epsilon: Tensor

    expression = "4*epsilon*((sigma/q)^12-(sigma/q)^6)"

    def energy(self, q: tuple[Tensor, ...]) -> Tensor:
        """Energies [kcal/mol]."""
        six = (self.sigma / q[0]) ** 6
        return 4.0 * self.epsilon * (six * six - six)

    def slopes(self, q: tuple[Tensor, ...]) -> Slopes:
        """Energies and slopes, as A/r¹² − B/r⁶: factors that depend on distances alone carry no gradient."""
        inverse = 1.0 / (q[0] * q[0])
        r6, size6 = inverse * inverse * inverse, self.sigma**6
        b = 4.0 * self.epsilon * size6
        repulsion = b * size6 * r6
        return (repulsion - b) * r6, ((b - 2.0 * repulsion) * (6.0 * r6 / q[0]),)


@dataclass(frozen=True, eq=False)
class Charges(Primitive):
    """qᵢ qⱼ / (4 π ε₀ q), Coulomb; `qq` is the product of the charges [e²]."""

    q: int
    qq: Tensor

    expression = f"{COULOMB!r}*qq/q"

    def energy(self, q: tuple[Tensor, ...]) -> Tensor:
        """Energies [kcal/mol]."""
        return COULOMB * self.qq / q[0]

    def slopes(self, q: tuple[Tensor, ...]) -> Slopes:
        """Energies and slopes."""
        u = self.energy(q)
        return u, (-u / q[0],)


@dataclass(frozen=True, eq=False)
class Expression(Primitive):
    """Any other form: a function of coordinates, and the same in OpenMM's syntax. Slopes are by autograd.

    Attributes:
        coordinates: names of the coordinates in the text: all coordinates of the term.
        function: energies [kcal/mol] from the coordinates.
        text: the same in OpenMM's syntax.
        values: parameters by their names in the text.
    """

    coordinates: tuple[str, ...]
    function: Callable[[tuple[Tensor, ...]], Tensor]
    text: str
    values: Mapping[str, Value]

    @property
    def indices(self) -> tuple[int, ...]:
        """Positions of its coordinates: all."""
        return tuple(range(len(self.coordinates)))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its coordinates in `expression`."""
        return self.coordinates

    @property
    def expression(self) -> str:
        """Energy [kcal/mol] in OpenMM's syntax."""
        return self.text

    def energy(self, q: tuple[Tensor, ...]) -> Tensor:
        """Energies [kcal/mol]."""
        return self.function(q)

    def columns(self) -> dict[str, Value]:
        """Parameters by name."""
        return dict(self.values)
