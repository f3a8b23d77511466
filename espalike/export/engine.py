"""Which primitives a file format can express, and what its engine calls them.

Each format has one table, from (place, primitive) to a `Cell`. A place is what a primitive acts on: a bond, an angle,
two bonds of an angle, a pair. Exporters look primitives up there and never ask for the class of a term, so a new form
or a subclass is written wherever its primitives are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import torch

from espalike.geometry import Angle, Coordinate, Dihedral, Distance
from espalike.terms.base import PairTerm, Term
from espalike.terms.primitives import Charges, Expression, Primitive
from espalike.terms.torsion import PeriodicImproper, WilsonImproper
from espalike.terms.van_der_waals import MIXING
from espalike.tuples import Kind


class Place(StrEnum):
    """What a primitive acts on."""

    BOND = "bond"
    ANGLE = "angle"
    ACROSS = "1-3 distance"
    PROPER = "proper"
    IMPROPER = "improper"
    WILSON = "out of plane"
    BOND_BOND = "bond-bond"
    BOND_ANGLE = "first bond-angle"
    ANGLE_BOND = "second bond-angle"
    ANGLE_ANGLE = "angle-angle"
    BOND_BOND_13 = "bond-bond of a torsion"
    MIDDLE_BOND_TORSION = "middle bond-torsion"
    FIRST_BOND_TORSION = "first bond-torsion"
    LAST_BOND_TORSION = "last bond-torsion"
    FIRST_ANGLE_TORSION = "first angle-torsion"
    SECOND_ANGLE_TORSION = "second angle-torsion"
    ANGLE_ANGLE_TORSION = "angle-angle-torsion"
    VAN_DER_WAALS = "van der Waals"
    CHARGES = "charges"
    OTHER = "anything else"


_R1, _R2, _R3 = Distance(0, 1), Distance(1, 2), Distance(2, 3)
_T1, _T2, _PHI = Angle(0, 1, 2), Angle(1, 2, 3), Dihedral(0, 1, 2, 3)

PLACES: dict[Place, tuple[Kind, tuple[Coordinate, ...]]] = {
    Place.BOND: (Kind.BOND, (_R1,)),
    Place.ANGLE: (Kind.ANGLE, (_T1,)),
    Place.ACROSS: (Kind.ANGLE, (Distance(0, 2),)),
    Place.PROPER: (Kind.PROPER, (_PHI,)),
    Place.IMPROPER: (Kind.IMPROPER, PeriodicImproper.coordinates),
    Place.WILSON: (Kind.IMPROPER, WilsonImproper.coordinates),
    Place.BOND_BOND: (Kind.ANGLE, (_R1, _R2)),
    Place.BOND_ANGLE: (Kind.ANGLE, (_R1, _T1)),
    Place.ANGLE_BOND: (Kind.ANGLE, (_R2, _T1)),
    Place.ANGLE_ANGLE: (Kind.ANGLE_PAIR, (Angle(0, 1, 2), Angle(2, 1, 3))),
    Place.BOND_BOND_13: (Kind.PROPER, (_R1, _R3)),
    Place.MIDDLE_BOND_TORSION: (Kind.PROPER, (_R2, _PHI)),
    Place.FIRST_BOND_TORSION: (Kind.PROPER, (_R1, _PHI)),
    Place.LAST_BOND_TORSION: (Kind.PROPER, (_R3, _PHI)),
    Place.FIRST_ANGLE_TORSION: (Kind.PROPER, (_T1, _PHI)),
    Place.SECOND_ANGLE_TORSION: (Kind.PROPER, (_T2, _PHI)),
    Place.ANGLE_ANGLE_TORSION: (Kind.PROPER, (_T1, _T2, _PHI)),
}
"""Places of bonded primitives: the kind of tuple, and the coordinates in the order of the primitive."""
_NAMES = {key: name for name, key in PLACES.items()}


def coordinates_of(term: Term, primitive: Primitive) -> tuple[Coordinate, ...]:
    """The coordinates of one of a term's primitives."""
    return tuple(term.coordinates[i] for i in primitive.indices)


def place_of(term: Term, primitive: Primitive) -> Place:
    """The place of one of a term's primitives; `Place.OTHER` where it has no name."""
    if isinstance(term, PairTerm):
        return Place.CHARGES if isinstance(primitive, Charges) else Place.VAN_DER_WAALS
    return _NAMES.get((term.kind, coordinates_of(term, primitive)), Place.OTHER)


@lru_cache(maxsize=64)
def shapes(term: Term) -> tuple[Primitive, ...]:
    """The primitives of a term, with all parameters 1: their types and places do not depend on the values."""
    if isinstance(term, PairTerm):
        columns = [[torch.ones(1, dtype=torch.float64) for _ in range(term.n_combined)] for _ in range(2)]
        return term.primitives(term.combine(tuple(columns[0]), tuple(columns[1])))
    return term.primitives(tuple(torch.ones(1, dtype=torch.float64) for _ in term.params))


def rule_of(term: Term) -> str | None:
    """Name of a pair term's combining rule, None for one that is not in `MIXING`."""
    text = getattr(term, "combining", "")
    return next((name for name, (_, known) in MIXING.items() if known == text), None)


def states_combining(term: Term, primitive: Primitive) -> bool:
    """Whether a pair term's combining rule, in OpenMM's syntax, gives all parameters of its primitive."""
    text = getattr(term, "combining", "")
    return bool(text) and all(re.search(rf"\b{name}=", text) for name in primitive.columns())


def has_expression(term: Term, primitive: Primitive) -> bool:
    """Whether a custom force of OpenMM can be made of a primitive."""
    if isinstance(term, PairTerm) and not states_combining(term, primitive):
        return False
    return bool(primitive.expression)


def has_charges(term: Term, primitive: Primitive) -> bool:
    """Whether a pair term's charges are a parameter of the atoms that multiplies for a pair."""
    return any(p.link == "charge" for p in term.params) and getattr(term, "combining", "") == "qq=q1*q2"


def shares_wells(term: Term, primitive: Primitive) -> bool:
    """Whether pairs of one molecule have the parameters of pairs of different molecules."""
    return not (isinstance(term, PairTerm) and term.has_own)


def always(term: Term, primitive: Primitive) -> bool:
    """A cell without limits."""
    return True


@dataclass(frozen=True)
class Cell:
    """How a format writes one primitive in one place.

    Attributes:
        label: what the engine calls it, and its limits.
        fits: whether a primitive of a term is within the limits.
    """

    label: str
    fits: Callable[[Term, Primitive], bool] = always


@dataclass(frozen=True)
class Engine:
    """What a format can express.

    Attributes:
        name: the format.
        cells: its table.
        fallback: cell of primitives that are not in the table; None: they are refused.
        once: places that at most one primitive may have.
    """

    name: str
    cells: Mapping[tuple[Place, type[Primitive]], Cell]
    fallback: Cell | None = None
    once: frozenset[Place] = frozenset({Place.VAN_DER_WAALS, Place.CHARGES})

    def cell(self, place: Place, primitive: type[Primitive]) -> Cell | None:
        """The cell of a primitive in a place, None if the format has none."""
        return self.cells.get((place, primitive), self.fallback)

    def refused(self, terms: Sequence[Term]) -> list[str]:
        """The terms that the format cannot express, each once, by name."""
        refused: list[Term] = []
        holders: dict[Place, list[Term]] = {}
        for term in terms:
            primitives = shapes(term)
            if isinstance(term, PairTerm) and len(primitives) != 1:
                refused.append(term)
                continue
            for primitive in primitives:
                place = place_of(term, primitive)
                holders.setdefault(place, []).append(term)
                cell = self.cell(place, type(primitive))
                if cell is None or not cell.fits(term, primitive):
                    refused.append(term)
        for place in self.once & holders.keys():
            if len(holders[place]) > 1:
                refused += holders[place]
        return list(dict.fromkeys(_called(term) for term in terms if any(term is other for other in refused)))


def _called(term: Term) -> str:
    """A term's name, with a combining rule that is not the usual one, or separate parameters within a molecule."""
    rule = rule_of(term)
    if not shares_wells(term, shapes(term)[0]):
        return f"{term.name} with separate parameters for pairs of one molecule"
    return f"{term.name} with {rule} mixing" if rule and rule != "lorentz-berthelot" else term.name


def table(engines: Sequence[Engine]) -> list[list[str]]:
    """Rows of the table primitives × formats, its head first."""
    keys: set[tuple[Place, type[Primitive]]] = {(Place.VAN_DER_WAALS, Expression), (Place.OTHER, Expression)}
    keys |= {key for engine in engines for key in engine.cells}
    order = list(Place)
    rows = [["acts on", "primitive", *(engine.name for engine in engines)]]
    for place, primitive in sorted(keys, key=lambda key: (order.index(key[0]), key[1].__name__)):
        cells = [engine.cell(place, primitive) for engine in engines]
        rows.append([place, primitive.__name__, *("–" if cell is None else cell.label for cell in cells)])
    return rows
