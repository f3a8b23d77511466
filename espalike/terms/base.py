"""What a functional form is: parameters with units, internal coordinates, symmetry, energy, engine expression."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from espalike.geometry import Coordinate
from espalike.tuples import Kind

Prior = Callable[[Tensor, Tensor], Tensor]
"""`(numbers (T, k), degrees (T, k)) -> (T,)`: a parameter's expected value from elements and neighbour counts alone."""


@dataclass(frozen=True)
class Borrow:
    """A parameter that is another term's: class II couplings use the equilibrium values of the bonds and angles.

    Attributes:
        kind: tuples the lender belongs to.
        name: the lender's parameter.
        atoms: where the lender's tuple sits in this one.
    """

    kind: Kind
    name: str
    atoms: tuple[int, ...]


@dataclass(frozen=True)
class Param:
    """One parameter of a term.

    Attributes:
        name: as it stands in the expression.
        unit: unit string of `espalike.units`; internal units are used throughout.
        mean: value an untrained model gives, a number or a prior by element and degree.
        std: spread around it [unit].
        link: how raw network output becomes a value: `positive`, `free`, `range(lo,hi)`; see `espalike.nn.links`.
        shifts: whether another level of theory may shift it in training (equilibrium geometry); dropped at inference.
        borrows: whose value it takes where the force field has such a term; otherwise it is learned like any other.
        universal: one learned value for the whole force field instead of one a tuple.
    """

    name: str
    unit: str
    mean: float | Prior
    std: float
    link: str
    shifts: bool = False
    borrows: Borrow | None = None
    universal: bool = False


@dataclass(frozen=True)
class Op:
    """A symmetry operation: how atoms of a tuple are permuted, and parameter columns with signs along with them.

    `columns=None` keeps the columns in place, `signs=None` keeps their signs.
    """

    atoms: tuple[int, ...]
    columns: tuple[int, ...] | None = None
    signs: tuple[int, ...] | None = None


NONE = (Op((0,)),)
REVERSAL_2 = (Op((0, 1)), Op((1, 0)))
REVERSAL_3 = (Op((0, 1, 2)), Op((2, 1, 0)))
REVERSAL_4 = (Op((0, 1, 2, 3)), Op((3, 2, 1, 0)))
REVERSAL_5 = (Op((0, 1, 2, 3, 4)), Op((4, 3, 2, 1, 0)))
OUTER_3 = tuple(Op((a, 1, b, c)) for a, b, c in itertools.permutations((0, 2, 3)))
"""The six permutations of the outer atoms of an improper (centre second)."""


def swapping(ops: tuple[Op, ...], columns: tuple[int, ...]) -> tuple[Op, ...]:
    """A reversal, identity first, that also permutes parameter columns."""
    identity, reverse = ops
    return identity, Op(reverse.atoms, columns)


def is_group(ops: tuple[Op, ...], n_columns: int) -> bool:
    """Whether operations, acting on atoms and signed columns together, form a group."""
    identity = tuple(range(n_columns))

    def full(op: Op):
        return op.atoms, op.columns or identity, op.signs or (1,) * n_columns

    def compose(first, second):
        atoms = tuple(first[0][i] for i in second[0])
        columns = tuple(first[1][i] for i in second[1])
        signs = tuple(second[2][i] * first[2][c] for i, c in enumerate(second[1]))
        return atoms, columns, signs

    elements = {full(op) for op in ops}
    neutral = (tuple(range(len(ops[0].atoms))), identity, (1,) * n_columns)
    return (
        len(elements) == len(ops)
        and neutral in elements
        and all(compose(a, b) in elements for a in elements for b in elements)
    )


def harmonic(d: Tensor, k: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """½ k d² and its derivative by d."""
    slope = k * d
    return 0.5 * slope * d, (slope,)


LENGTH, ANGLE = 1.4, 2.0
"""What powers of a length [Å] or an angle [rad] are about: any value would do, one nearby loses fewer digits."""


def powers(d: Tensor, highest: int) -> tuple[Tensor, ...]:
    """d, d², … up to a power."""
    return tuple(d**n for n in range(1, highest + 1))


def expanded(s: Tensor, *c: Tensor) -> tuple[Tensor, ...]:
    """Coefficients of d, d², … in Σₙ cₙ (d − s)ⁿ, n = 2, 3, …; the constant is left out."""
    return tuple(
        sum((math.comb(n, m) * (-s) ** (n - m) * k for n, k in enumerate(c, 2) if n >= m), torch.zeros_like(s))
        for m in range(1, len(c) + 2)
    )


class Term(ABC):
    """A functional form over tuples of one kind. A new form subclasses this and fills in the class attributes.

    Energy is a function of internal coordinates and parameters; forces follow from Wilson B rows.

    Attributes:
        kind: tuples the energy is summed over.
        param_kind: tuples the parameters belong to; differs from `kind` for pair terms (`Kind.ATOM`).
        coordinates: internal coordinates of a tuple, the `q` of `energy`.
        symmetry: operations that map a tuple onto the same physical tuple.
        params: parameters, in column order.
        expression: energy [kcal/mol] in OpenMM's expression syntax in q names and parameter names.
        q_names: names of the coordinates in the expression.
        native: OpenMM force class that has this form, or None.
        scale14: factor on pairs three bonds apart (pair terms).
    """

    kind: ClassVar[Kind]
    param_kind: ClassVar[Kind]
    coordinates: ClassVar[tuple[Coordinate, ...]]
    q_names: ClassVar[tuple[str, ...]]
    symmetry: ClassVar[tuple[Op, ...]]
    params: tuple[Param, ...]
    expression: ClassVar[str]
    native: ClassVar[str | None] = None
    scale14: float = 1.0

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        for name in ("slopes", "basis", "coefficients"):
            if "energy" in cls.__dict__ and name not in cls.__dict__:
                setattr(cls, name, getattr(Term, name))  # a parent's belong to the parent's energy
        if "params" not in cls.__dict__:
            return
        if "param_kind" not in cls.__dict__ and not hasattr(cls, "param_kind"):
            cls.param_kind = cls.kind
        if not is_group(cls.symmetry, len(cls.params)):
            raise TypeError(f"{cls.__name__}.symmetry is not a group on {len(cls.params)} parameter columns")

    @property
    def name(self) -> str:
        """Name in tables and files: the class name."""
        return type(self).__name__

    @abstractmethod
    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol] of each tuple, shape `(K, T)`, from coordinates `(K, T)` and parameters `(T,)`."""

    def slopes(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Energy [kcal/mol] and its derivatives by the coordinates, each `(K, T)`, as functions of the parameters.

        By autograd; a form that trains often may give them in closed form, which is several times faster.
        """
        graph = torch.is_grad_enabled()
        with torch.enable_grad():
            leaves = tuple(value.detach().requires_grad_() for value in q)
            u = self.energy(leaves, p)
            slopes = torch.autograd.grad(u.sum(), leaves, create_graph=graph)
        return (u, slopes) if graph else (u.detach(), slopes)

    @property
    def is_linear(self) -> bool:
        """Whether the energy is linear in `coefficients`."""
        return type(self).coefficients is not Term.coefficients

    def basis(self, q: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Functions of the coordinates alone, each `(T, K)`, that the energy is a sum of, up to what does not depend
        on the coordinates: Σ `coefficients` × `basis`. Empty for a form that is not linear in this sense."""
        return ()

    def coefficients(self, p: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Their coefficients, functions of the parameters alone, each `(T,)`."""
        return ()

    def __repr__(self) -> str:
        return f"{self.name}()"


LEARNED = "learned"
"""Instead of a number for `scale14`: one value for the whole force field, fitted with it."""


class PairTerm(Term):
    """A nonbonded form: parameters belong to atoms and are combined for each pair; 1-4 pairs are scaled.

    Args:
        scale14: factor on pairs three bonds apart, or `"learned"`: then it is one more, universal parameter.

    Attributes:
        combining: pair parameters from those of the two atoms, which carry the suffixes 1 and 2, in OpenMM's syntax.
        usual14: factor that learning starts from.
    """

    kind = Kind.PAIR
    param_kind = Kind.ATOM
    symmetry = NONE
    combining: str
    usual14: ClassVar[float] = 0.5

    def __init__(self, scale14: float | str = 1.0):
        if scale14 == LEARNED:
            scale = Param("scale14", "1", mean=self.usual14, std=0.3, link="range(0,1)", universal=True)
            self.params = (*type(self).params, scale)
        elif isinstance(scale14, str):
            raise ValueError(f"{self.name}: scale14 is a number or {LEARNED!r}; got {scale14!r}")
        self.scale14 = self.usual14 if isinstance(scale14, str) else scale14

    @property
    def n_combined(self) -> int:
        """How many of the parameter columns are combined for a pair: all but a learned 1-4 factor."""
        return len(type(self).params)

    @abstractmethod
    def combine(self, first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Pair parameters from the parameters of its two atoms, the first `n_combined` columns."""

    def __repr__(self) -> str:
        learned = len(self.params) > self.n_combined
        return f"{self.name}(scale14={LEARNED if learned else format(self.scale14, '.6g')})"
