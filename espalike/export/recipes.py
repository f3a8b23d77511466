"""OpenMM forces as plain data: `to_openmm` makes forces of them, `ffxml` writes them into the script of a file.

A recipe is a plain dictionary: `force` (class), `name`, `size` (atoms in a row),
`energy` (empty for a native force), `parameters` (names) and `rows` of atoms and values in OpenMM's units. Custom
forces get their parameters in the term's units; the factors are in the energy expression.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from espalike.export.cartesian import Cartesian
from espalike.export.engine import Cell, Place, has_charges, has_expression
from espalike.export.parts import BOND_K, ENERGY, LENGTH, Part
from espalike.geometry import Angle, Coordinate, Dihedral, Distance
from espalike.terms.fourier import Coupling, Fourier, chebyshev
from espalike.terms.primitives import Charges, Harmonic, Primitive, TwelveSix, Value

Recipe = dict[str, Any]
Row = tuple[list[int], Sequence[float]]
"""Atoms and values of one interaction."""
TORSIONS = ("native", "custom")
"""How cosine series become forces: rows of a `PeriodicTorsionForce`, or polynomials in cos φ of a custom force."""


@dataclass(frozen=True, eq=False)
class Native:
    """Parts that are one native force of OpenMM, as arrays.

    Attributes:
        force: its class.
        name: names of the terms.
        number: number of the (first) term.
        atoms: atoms of the rows, shape `(R, k)`.
        columns: values of the rows in OpenMM's units, each `(R,)`.
    """

    force: str
    name: str
    number: int
    atoms: np.ndarray
    columns: tuple[np.ndarray, ...]

    @staticmethod
    def of(parts: Sequence[Part]) -> Native:
        """The force of parts that are the same native force."""
        force, of_part = NATIVE[_key(parts[0])]
        atoms, columns = zip(*(of_part(part, part.primitive) for part in parts), strict=True)
        joined = tuple(np.concatenate(column) for column in zip(*columns, strict=True))
        return Native(force, _joined(parts), parts[0].number, np.concatenate(atoms), joined)

    def recipe(self) -> Recipe:
        """The force as plain data."""
        return _recipe(self.force, self.name, "", (), _rows(self.atoms, self.columns))


def _rows(atoms: np.ndarray, columns: Sequence[np.ndarray]) -> list[Row]:
    values = zip(*(column.tolist() for column in columns), strict=True) if columns else [()] * len(atoms)
    return list(zip(atoms.tolist(), values, strict=True))


Arrays = tuple[np.ndarray, Sequence[np.ndarray]]
"""Atoms of rows, and columns of values."""


def _torsions(part: Part) -> Arrays:
    atoms, waves = part.dihedrals
    return atoms, (waves.n, waves.phase, waves.k * ENERGY)


def _plain(part: Part, *values: Value) -> Arrays:
    return part.idx[:, part.coordinates[0].atoms], part.columns(*values)


NATIVE: dict[tuple[type, type[Primitive]], tuple[str, Callable[[Part, Any], Arrays]]] = {
    (Distance, Harmonic): ("HarmonicBondForce", lambda part, p: _plain(part, p.q0 * LENGTH, p.k * BOND_K)),
    (Angle, Harmonic): ("HarmonicAngleForce", lambda part, p: _plain(part, p.q0, p.k * ENERGY)),
    (Dihedral, Fourier): ("PeriodicTorsionForce", lambda part, p: _torsions(part)),
}
"""OpenMM's native forces: class, and rows; by the type of coordinate and the primitive."""
_ONE_COORDINATE = {
    Distance: ("CustomBondForce", "r", f"/{LENGTH!r}"),
    Angle: ("CustomAngleForce", "theta", ""),
    Dihedral: ("CustomTorsionForce", "theta", ""),
}
"""Custom force for primitives of one coordinate, its name for the coordinate, and the factor to the term's unit."""


def cells(native: str, custom: str) -> dict[tuple[Place, type[Primitive]], Cell]:
    """The table of a format that OpenMM reads; 12-6 pairs of another mixing rule are custom.

    Args:
        native: label of OpenMM's force whose name replaces `{}`.
        custom: label of custom forces.
    """
    table: dict[tuple[Place, type[Primitive]], Cell] = {
        (Place.BOND, Harmonic): Cell(native.format("HarmonicBondForce")),
        (Place.ANGLE, Harmonic): Cell(native.format("HarmonicAngleForce")),
        (Place.ACROSS, Harmonic): Cell(native.format("HarmonicBondForce")),
        (Place.PROPER, Fourier): Cell(native.format("PeriodicTorsionForce")),
        (Place.IMPROPER, Fourier): Cell(native.format("PeriodicTorsionForce")),
    }
    pairs = native.format("NonbondedForce")
    table[Place.VAN_DER_WAALS, TwelveSix] = Cell(f"{pairs}; other mixing: {custom}", has_expression)
    table[Place.CHARGES, Charges] = Cell(pairs, has_charges)
    return table


def _key(part: Part) -> tuple[type, type[Primitive]]:
    return type(part.coordinates[0]), type(part.primitive)


def native_force(part: Part) -> str | None:
    """OpenMM's native force for a part, or None."""
    if len({type(c) for c in part.coordinates}) != 1:
        return None
    force, _ = NATIVE.get(_key(part), (None, None))
    return force


def natives(parts: Sequence[Part]) -> list[Native] | None:
    """Parts as OpenMM's native forces, in the order of the terms; None if one of them needs another force."""
    shared: dict[str, list[Part]] = {}
    for part in parts:
        force = native_force(part)
        if force is None:
            return None
        shared.setdefault(force, []).append(part)
    return [Native.of(same) for same in shared.values()]


def custom(part: Part) -> Recipe:
    """A part that OpenMM has no force for as a custom force made from its expression."""
    columns = part.primitive.columns()
    if len(part.coordinates) > 1:
        return compound([part])
    (coordinate,), (q,) = part.coordinates, part.primitive.names
    force, variable, factor = _ONE_COORDINATE[type(coordinate)]
    if variable in columns:
        return compound([part])
    names = [name for name, value in columns.items() if isinstance(value, torch.Tensor)]
    fixed = [f"{name}={value!r}" for name, value in columns.items() if name not in names]
    alias = [f"{q}={variable}{factor}"] if q != variable or factor else []
    energy = in_kj(part.primitive.expression, [*fixed, *alias])
    rows = _rows(*_plain(part, *(columns[name] for name in names)))
    return _recipe(force, part.term.name, energy, tuple(names), rows, len(coordinate.atoms))


def compound(parts: Sequence[Part]) -> Recipe:
    """Parts on the same tuples as one force; see `espalike.export.cartesian`."""
    whole = _Compound(len(parts[0].idx))
    for number, part in enumerate(parts):
        whole.add(part, f"part{number}_")
    energy = "; ".join([f"{ENERGY!r}*({'+'.join(whole.energies)})", *whole.definitions, *whole.cartesian.text()])
    rows = list(zip(parts[0].idx.tolist(), parts[0].rows(*whole.columns.values()), strict=True))
    size = parts[0].term.kind.size
    return _recipe("CustomCompoundBondForce", _joined(parts), energy, tuple(whole.columns), rows, size)


class _Compound:
    """The energy of a compound force while parts are added. Equal columns of values are one parameter.

    OpenMM derives the energy by every coordinate of every atom, as an expression in which nothing is shared. Therefore
    couplings are summed so that few names stand in it: by powers of cos φ, and by the first difference of each.
    """

    def __init__(self, size: int) -> None:
        self.cartesian = Cartesian()
        self.columns: dict[str, torch.Tensor] = {}
        self.definitions: list[str] = []
        self._size = size
        self._known: dict[bytes, str] = {}
        self._others: list[str] = []
        self._couplings: dict[str, dict[str, list[str]]] = {}  # by power of cos φ, and by the first difference

    @property
    def energies(self) -> list[str]:
        """Summands of the energy."""
        couplings = []
        for power, sums in self._couplings.items():
            total = "+".join(f"{first}*({'+'.join(others)})" for first, others in sums.items())
            couplings.append(f"({total})*{power}" if power else total)
        return [*self._others, *couplings]

    def add(self, part: Part, prefix: str) -> None:
        """Add a part; the prefix makes the names that it defines its own."""
        coordinates = dict(zip(part.primitive.names, part.coordinates, strict=True))
        if isinstance(part.primitive, Coupling):
            self._add_coupling(part, part.primitive, coordinates)
            return
        names = {
            field: self._parameter(part, field, value) if isinstance(value, torch.Tensor) else f"({value!r})"
            for field, value in part.primitive.columns().items()
        }
        first, others = _renamed(part.primitive.expression, names, prefix)
        first = self.cartesian.sines(first, coordinates)
        self._others.append(f"({self._expressed(first, coordinates)})")
        self.definitions += [self._expressed(text, coordinates) for text in others]

    def _add_coupling(self, part: Part, coupling: Coupling, coordinates: Mapping[str, Coordinate]) -> None:
        phi = coordinates.get("phi")
        assert phi is None or isinstance(phi, Dihedral)
        cosine = None if phi is None else self.cartesian.cosine(phi)
        differences = []
        for n, (name, value) in enumerate(zip(coupling.names, coupling.q0, strict=False), 1):
            q0 = self._parameter(part, f"q0{n}", torch.as_tensor(value, dtype=torch.float64))
            differences.append(f"({self._expressed(name, coordinates)}-{q0})")
        first, *others = differences
        for m, k in coupling.by_power().items():
            power = "" if cosine is None else power_less_mean(cosine, m)
            product = "*".join([self._parameter(part, f"k{m}", k), *others])
            self._couplings.setdefault(power, {}).setdefault(first, []).append(product)

    def _parameter(self, part: Part, field: str, value: torch.Tensor) -> str:
        """The name of a parameter's column."""
        column = value.expand(self._size).contiguous()
        name = self._known.setdefault(column.numpy().tobytes(), _free(f"{part.term.name}_{field}", self.columns))
        self.columns[name] = column
        return name

    def _expressed(self, text: str, coordinates: Mapping[str, Coordinate]) -> str:
        """An expression in the names of coordinates as one in those of their definitions."""
        for q, coordinate in coordinates.items():
            text = self.cartesian.express(text, q, coordinate)
        return text


def power_less_mean(cosine: str, m: int) -> str:
    """cosᵐφ less its mean over a turn, which is (m − 1)!!/m!! for even m; `cosine` is the name of cos φ."""
    power = cosine if m == 1 else f"{cosine}^{m}"
    return power if m % 2 else f"({power}-{math.comb(m, m // 2) / 2**m!r})"


def cosine_series(part: Part) -> Recipe:
    """A series of cosines of one dihedral as one polynomial in cos φ per torsion."""
    p = part.primitive
    assert isinstance(p, Fourier)
    constant = torch.stack(p.k).sum(0) + (0.0 if p.constant is None else p.constant)
    powers = torch.stack([constant, *p.k], -1) @ chebyshev((0, *p.n))
    names = tuple(f"c{m}" for m in range(powers.shape[1]))
    polynomial = names[-1]
    for name in reversed(names[:-1]):
        polynomial = f"{name}+u*({polynomial})"
    rows = [row for row in _rows(*_plain(part, *powers.unbind(-1))) if any(row[1])]
    return _recipe("CustomTorsionForce", part.term.name, f"{ENERGY!r}*({polynomial}); u=cos(theta)", names, rows, 4)


def bonded(parts: Sequence[Part], by_term: bool = False, torsions: str = "native") -> list[tuple[int, Recipe]]:
    """Bonded parts as forces, each with the number of its (first) term.

    Parts that are the same native force share it, and those on the same tuples that need a compound force share that.

    Args:
        parts: bonded parts.
        by_term: whether only parts of the same term may share a force.
        torsions: one of `TORSIONS`.
    """
    single: list[tuple[int, Recipe]] = []
    shared: dict[Any, list[Part]] = {}
    compounds: dict[Any, list[Part]] = {}
    for part in parts:
        term = part.number if by_term else None
        if torsions == "custom" and isinstance(part.primitive, Fourier) and part.primitive.is_even:
            single.append((part.number, cosine_series(part)))
        elif (force := native_force(part)) is not None:
            shared.setdefault((force, term), []).append(part)
        elif len(part.coordinates) > 1:
            compounds.setdefault((part.term.kind, part.bound.tuples.idx.numpy().tobytes(), term), []).append(part)
        else:
            single.append((part.number, custom(part)))
    made = [(same[0].number, Native.of(same).recipe()) for same in shared.values()]
    made += [(same[0].number, compound(same)) for same in compounds.values()]
    return sorted([*made, *single], key=lambda item: item[0])


def in_kj(expression: str, definitions: Sequence[str], scale: str = "") -> str:
    """An expression in OpenMM's energy unit; definitions see those after them, so that r may be redefined by r."""
    first, _, others = expression.partition(";")
    factors = f"{ENERGY!r}*{scale}*" if scale else f"{ENERGY!r}*"
    return "; ".join([f"{factors}({first})", *([others.strip()] if others.strip() else []), *definitions])


def _renamed(expression: str, names: dict[str, str], prefix: str) -> tuple[str, list[str]]:
    """An expression and its definitions, with other names for parameters and a prefix for the defined names."""
    first, *others = (part.strip() for part in expression.split(";") if part.strip())
    names = names | {name: f"{prefix}{name}" for name in (part.partition("=")[0].strip() for part in others)}
    words = re.compile(r"\b[A-Za-z_]\w*\b")
    renamed = [words.sub(lambda word: names.get(word[0], word[0]), part) for part in (first, *others)]
    return renamed[0], renamed[1:]


def _free(name: str, taken: dict[str, Any]) -> str:
    """The name, or the name with the first number that makes it new."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def _joined(parts: Sequence[Part]) -> str:
    return "+".join(dict.fromkeys(part.term.name for part in parts))


def _recipe(force: str, name: str, energy: str, parameters: tuple[str, ...], rows, size: int = 0) -> Recipe:
    return {
        "force": force, "name": name, "size": size,
        "energy": energy, "parameters": list(parameters), "rows": list(rows),
    }  # fmt: skip
