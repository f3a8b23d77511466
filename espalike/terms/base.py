"""Functional forms: parameters with units, internal coordinates, symmetry, and the primitives that they are sums of.

A new form is a subclass of `Term`, in a plug-in or here:

    class CubicBond(HarmonicBond):
        params = (*HarmonicBond.params, Param("g", "kcal/mol/angstrom**3", mean=-700.0, std=100.0, link="free"))

        def primitives(self, p):
            k, r0, g = p
            return (Polynomial(0, r0, 0.5 * k, g),)
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from espalike.geometry import Coordinate
from espalike.terms.primitives import Expression, Primitive, differentiated, total_energy, total_slopes
from espalike.tuples import Kind

Prior = Callable[[Tensor, Tensor], Tensor]
"""`(numbers (T, k), degrees (T, k)) -> (T,)`: a parameter's expected value from elements and neighbour counts alone."""


@dataclass(frozen=True)
class Borrow:
    """A parameter taken from another term: class II couplings use the equilibrium values of the bonds and angles.

    Attributes:
        kind: kind of tuples of the other term.
        name: name of its parameter.
        atoms: positions of its atoms in this term's tuple.
        unit: unit of the parameter, needed if several terms on these tuples have a parameter of this name.
    """

    kind: Kind
    name: str
    atoms: tuple[int, ...]
    unit: str = ""


@dataclass(frozen=True)
class Param:
    """One parameter of a term.

    Attributes:
        name: name, as in expressions.
        unit: unit string of `espalike.units`; internal units are used throughout.
        mean: value that an untrained model gives: a number, or a prior by element and degree.
        std: spread around it [unit].
        link: how raw network output becomes a value: `positive`, `free`, `range(lo,hi)`; see `espalike.nn.links`.
        shifts: whether another level of theory may shift it in training (equilibrium geometry); dropped at inference.
        borrows: the parameter whose value it takes if the force field has that term; otherwise it is learned.
        universal: one learned value for the whole force field instead of one per tuple.
        smallest: a learned value that is nearer to zero counts as zero, except in training [unit].
        weight: name of the parameter of the term that weights this one in the mean over an ensemble; empty: plain mean.
            With an equilibrium value weighted by its force constant, the mean of harmonics is one harmonic, exactly.
        couples: the force constants of the bond and of the angle that this parameter couples; it stays so small that
            the bond does not give way, see `espalike.nn.readout.Readout.stacked`.
        linear: its value where the second atom of a tuple is a linear centre, see `espalike.linear`; None: as learned.
    """

    name: str
    unit: str
    mean: float | Prior
    std: float
    link: str
    shifts: bool = False
    borrows: Borrow | None = None
    universal: bool = False
    smallest: float = 0.0
    weight: str = ""
    couples: tuple[Borrow, Borrow] | None = None
    linear: float | None = None


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
    """Whether operations on atoms and signed columns form a group."""
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


class Term(ABC):
    """A functional form over tuples of one kind. A new form subclasses this and fills in the class attributes.

    A form is defined by `primitives`, from which its energy, its slopes and its exports follow. A form that is not a
    sum of primitives gives `energy` and `expression` instead. Forces follow from slopes and Wilson B rows.

    Attributes:
        kind: tuples the energy is summed over.
        param_kind: tuples the parameters belong to; differs from `kind` for pair terms (`Kind.ATOM`).
        coordinates: internal coordinates of a tuple.
        q_names: their names, which `expression` uses.
        symmetry: operations that map a tuple onto the same physical tuple.
        params: parameters, in column order.
        expression: of a form without primitives: energy [kcal/mol] in OpenMM's expression syntax, in the names of
            coordinates and parameters.
        scale14: factor on pairs three bonds apart (pair terms).
    """

    kind: ClassVar[Kind]
    param_kind: ClassVar[Kind]
    coordinates: ClassVar[tuple[Coordinate, ...]]
    q_names: ClassVar[tuple[str, ...]]
    symmetry: ClassVar[tuple[Op, ...]]
    params: tuple[Param, ...]
    expression: ClassVar[str] = ""
    scale14: float = 1.0

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "primitives" in cls.__dict__:
            _derive(cls)
        elif "energy" in cls.__dict__:  # a parent's primitives and slopes belong to the parent's energy
            cls.primitives = Term.primitives  # type: ignore[method-assign]
            if "slopes" not in cls.__dict__:
                cls.slopes = Term.slopes  # type: ignore[method-assign]
        if "params" not in cls.__dict__:
            return
        if "param_kind" not in cls.__dict__ and not hasattr(cls, "param_kind"):
            cls.param_kind = cls.kind
        if not is_group(cls.symmetry, len(cls.params)):
            raise TypeError(f"{cls.__name__}.symmetry is not a group on {len(cls.params)} parameter columns")
        names = [param.name for param in cls.params]
        if unknown := [p.name for p in cls.params if p.weight not in ("", *names)]:
            raise TypeError(f"{cls.__name__}: weights of {', '.join(unknown)} are not among its parameters")
        if cls.energy is Term.energy:
            raise TypeError(f"{cls.__name__} states neither `primitives` nor `energy`")

    @property
    def name(self) -> str:
        """Name in tables and files: the class name."""
        return type(self).__name__

    def primitives(self, p: tuple[Tensor, ...]) -> tuple[Primitive, ...]:
        """The primitives that the form is the sum of.

        Args:
            p: parameters by column, of any one shape; those of a pair term are combined already.
        """
        names = [param.name for param in self.params] if self.kind is self.param_kind else []
        values = dict(zip(names, p, strict=bool(names)))  # `combining` defines those of pairs
        return (Expression(self.q_names, lambda q: self.energy(q, p), self.expression, values),)

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol] of each tuple, shape `(T, K)`, from coordinates `(T, K)` and parameters `(T, 1)`."""
        raise NotImplementedError

    def slopes(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Energy [kcal/mol] and its derivatives by the coordinates, each `(T, K)`, as functions of the parameters.

        The primitives' closed forms where the form states primitives; else by autograd, which is several times slower.
        """
        return differentiated(lambda leaves: self.energy(leaves, p), q)

    def __repr__(self) -> str:
        return f"{self.name}()"


def _derive(cls: type[Term]) -> None:
    """Give a class the energy and the slopes of the primitives that it states, unless it states these itself."""
    primitives = cls.primitives

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol] of each tuple, the sum over the primitives."""
        return total_energy(primitives(self, p), q)

    def slopes(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Energy and its derivatives by the coordinates, sums over the primitives."""
        return total_slopes(primitives(self, p), q)

    for function in (energy, slopes):
        if function.__name__ not in cls.__dict__:
            setattr(cls, function.__name__, function)


class Straightened(Term):
    """A form of an angle θ whose energy has a kink at 180°, unless it rests there.

    Args:
        straight: whether the angle rests at 180° where its centre is linear, so that the energy is smooth there: as in
            nitriles, alkynes and azides, whose thermal motion passes 180°.

    Attributes:
        at_linear: parameters that then have a value where the centre is linear.
    """

    at_linear: ClassVar[Mapping[str, float]]
    straight: bool = False

    def __init__(self, straight: bool = False):
        if not isinstance(straight, bool):
            raise ValueError(f"{self.name}: straight is true or false; got {straight!r}")
        self.straight = straight
        if straight:
            self.params = tuple(replace(param, linear=self.at_linear.get(param.name)) for param in type(self).params)

    def __repr__(self) -> str:
        return f"{self.name}({'straight=True' if self.straight else ''})"


LEARNED = "learned"
"""Instead of a number for `scale14`: one value for the whole force field, fitted with it."""


class PairTerm(Term):
    """A nonbonded form: parameters belong to atoms and are combined for each pair; 1-4 pairs are scaled.

    Args:
        scale14: factor on pairs three bonds apart, or `"learned"`: then it is one more, universal parameter.

    Attributes:
        combining: pair parameters from those of the two atoms, which carry the suffixes 1 and 2, in OpenMM's syntax.
        usual14: initial value of a learned factor.
        has_own: whether pairs of one molecule have other parameters than pairs of different molecules.
    """

    kind = Kind.PAIR
    param_kind = Kind.ATOM
    symmetry = NONE
    combining: str
    usual14: ClassVar[float] = 0.5
    has_own: bool = False

    def __init__(self, scale14: float | str = 1.0):
        if scale14 == LEARNED:
            scale = Param("scale14", "1", mean=self.usual14, std=0.3, link="range(0,1)", universal=True)
            self.params = (*type(self).params, scale)
        elif isinstance(scale14, str):
            raise ValueError(f"{self.name}: scale14 is a number or {LEARNED!r}; got {scale14!r}")
        elif isinstance(scale14, bool) or not isinstance(scale14, int | float) or not 0.0 <= scale14 <= 1.0:
            raise ValueError(f"{self.name}: scale14 is a number from 0 to 1 or {LEARNED!r}; got {scale14!r}")
        self.scale14 = self.usual14 if isinstance(scale14, str) else scale14

    @property
    def n_combined(self) -> int:
        """How many of the parameter columns are combined for a pair of different molecules."""
        return len(type(self).params)

    def within(self, columns: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The `n_combined` parameters of atoms for pairs of one molecule, from all columns."""
        return columns[: self.n_combined]

    @abstractmethod
    def combine(self, first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Pair parameters from the parameters of its two atoms, the first `n_combined` columns."""

    def __repr__(self) -> str:
        learned = self.params[-1].name == "scale14"
        return f"{self.name}(scale14={LEARNED if learned else format(self.scale14, '.6g')})"
