"""Energies over several internal coordinates, with distances and angles written out in Cartesian coordinates.

In a `CustomCompoundBondForce` each of OpenMM's functions `distance` and `angle` is a call in each of the derivatives by
the atoms' coordinates. Written out, they are compiled with the rest of the expression and cost much less; parts that
several couplings of a tuple have in common are computed once. Of a dihedral, the cosine and the product of its sine
with that of an angle are written out, too. The dihedral itself stays `dihedral`: its derivatives would make expressions
that take OpenMM many seconds to compile. Names: `r_12` distance, `t_123` angle, `d_1234` dihedral, `c_1234` its cosine,
`s_1234` the product of sines; `x_12` a component of the vector between two atoms, `x_12c23` of a cross product,
`o_12_23` a dot product.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from espalike.export.parts import LENGTH
from espalike.geometry import Angle, Coordinate, Dihedral, Distance

_FLAT = 1e-20
"""Added to the squared cross product [nm⁴] in an angle, so that a straight one has a slope."""
_COLLINEAR = 1e-40
"""Added to the product of two squared cross products [nm⁸], so that collinear bonds give a number."""
_SINES = re.compile(r"\bsin\((\w+)\)\*sin\((\w+)\)")
_Vector = tuple[str, str]
"""Sign and name."""


class Cartesian:
    """Definitions of internal coordinates, each made once, in an order in which each needs only earlier ones."""

    def __init__(self) -> None:
        self._definitions: dict[str, str] = {}

    def text(self) -> list[str]:
        """The definitions in OpenMM's order, in which each needs only later ones."""
        return [f"{name}={text}" for name, text in reversed(self._definitions.items())]

    def express(self, expression: str, q: str, coordinate: Coordinate) -> str:
        """The expression with a coordinate's name replaced by the name of its definition [Å, rad]."""
        if not re.search(rf"\b{q}\b", expression):
            return expression
        atoms = "".join(str(a + 1) for a in coordinate.atoms)
        if isinstance(coordinate, Distance):
            v = self._vector(*sorted(coordinate.atoms))
            name = self._name(f"r_{v[1]}", lambda: f"sqrt({self._dot(v, v)})/{LENGTH!r}")
        elif isinstance(coordinate, Angle):
            name = self._name(f"t_{atoms}", lambda: self._angle(coordinate))
        else:
            points = ",".join(f"p{a + 1}" for a in coordinate.atoms)
            name = self._name(f"d_{atoms}", lambda: f"dihedral({points})")
        return re.sub(rf"\b{q}\b", name, expression)

    def sines(self, expression: str, coordinates: Mapping[str, Coordinate]) -> str:
        """The expression with each product of the sines of an angle i-j-k and a dihedral i-j-k-l written out.

        sin θ sin φ = r_ij · (r_jk × r_kl) / (|r_ij| |r_jk × r_kl|).

        Args:
            expression: the energy.
            coordinates: by the names that they have in it.
        """

        def written(match: re.Match[str]) -> str:
            angle, dihedral = coordinates.get(match[1]), coordinates.get(match[2])
            if not (isinstance(angle, Angle) and isinstance(dihedral, Dihedral)):
                return match[0]
            if dihedral.atoms[:3] != angle.atoms:
                return match[0]
            return self._name("s_" + "".join(str(a + 1) for a in dihedral.atoms), lambda: self._sines(dihedral))

        return _SINES.sub(written, expression)

    def cosine(self, dihedral: Dihedral) -> str:
        """The name of the cosine of a dihedral, written out."""
        return self._name("c_" + "".join(str(a + 1) for a in dihedral.atoms), lambda: self._cosine(dihedral))

    def _cosine(self, dihedral: Dihedral) -> str:
        i, j, k, l = dihedral.atoms  # noqa: E741
        first = self._cross(self._vector(i, j), self._vector(k, j))
        second = self._cross(self._vector(j, k), self._vector(l, k))
        return f"{self._dot(first, second)}/sqrt({self._dot(first, first)}*{self._dot(second, second)}+{_COLLINEAR})"

    def _sines(self, dihedral: Dihedral) -> str:
        i, j, k, l = dihedral.atoms  # noqa: E741
        bond, normal = self._vector(i, j), self._cross(self._vector(j, k), self._vector(k, l))
        return f"{self._dot(bond, normal)}/sqrt({self._dot(bond, bond)}*{self._dot(normal, normal)}+{_COLLINEAR})"

    def _angle(self, angle: Angle) -> str:
        u, v = self._vector(angle.i, angle.j), self._vector(angle.k, angle.j)
        normal = self._cross(u, v)
        return f"atan2(sqrt({self._dot(normal, normal)}+{_FLAT}),{self._dot(u, v)})"

    def _name(self, name: str, text) -> str:
        if name not in self._definitions:
            made = text()  # defines the names in it first
            self._definitions[name] = made
        return name

    def _vector(self, a: int, b: int) -> _Vector:
        """Vector from atom b to atom a."""
        i, j = sorted((a + 1, b + 1))
        for q in "xyz":
            self._name(f"{q}_{i}{j}", lambda q=q: f"{q}{i}-{q}{j}")
        return ("" if a < b else "-"), f"{i}{j}"

    def _dot(self, u: _Vector, v: _Vector) -> str:
        one, two = sorted((u[1], v[1]))
        name = self._name(f"o_{one}_{two}", lambda: "+".join(f"{q}_{one}*{q}_{two}" for q in "xyz"))
        return name if u[0] == v[0] else f"(-{name})"

    def _cross(self, u: _Vector, v: _Vector) -> _Vector:
        one, two = sorted((u[1], v[1]))
        for p, q, s in ("xyz", "yzx", "zxy"):
            self._name(f"{p}_{one}c{two}", lambda q=q, s=s: f"{q}_{one}*{s}_{two}-{s}_{one}*{q}_{two}")
        flips = (u[0] == "-") + (v[0] == "-") + (u[1] > v[1])
        return ("-" if flips % 2 else ""), f"{one}c{two}"
