"""Terms as OpenMM forces, written down but not made: `to_openmm` makes them, `to_ffxml` writes them into a file.

A recipe is a plain dictionary, so that it can stand in a file: `force` (class), `name`, `size` (atoms in a row),
`energy` (empty for a native force), `parameters` (names) and `rows` of atoms and values in OpenMM's units. What OpenMM
calls custom gets its parameters in the term's own units; the factors are in the energy expression.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from espalike.export.cartesian import LENGTH, Cartesian
from espalike.export.single import ExportError, fourier, pair_scales
from espalike.geometry import Angle, Dihedral, Distance
from espalike.system import Bound
from espalike.terms.angle import HarmonicAngle, UreyBradley
from espalike.terms.base import Borrow, PairTerm
from espalike.terms.bond import HarmonicBond
from espalike.terms.coulomb import Coulomb
from espalike.terms.lennard_jones import LennardJones
from espalike.terms.torsion import PERIODS, PeriodicProper, RyckaertBellemans
from espalike.units import convert

Recipe = dict[str, Any]

ENERGY = convert(1.0, "kcal/mol", "kJ/mol")
BOND_K = convert(1.0, "kcal/mol/angstrom**2", "kJ/mol/nm**2")

_HARMONIC = {
    HarmonicBond: ("HarmonicBondForce", BOND_K, LENGTH),
    UreyBradley: ("HarmonicBondForce", BOND_K, LENGTH),
    HarmonicAngle: ("HarmonicAngleForce", ENERGY, 1.0),
}
"""Force, and factors on k and on the equilibrium value, for terms ½ k (q − q₀)²."""
_ONE_COORDINATE = {
    Distance: ("CustomBondForce", "r", f"/{LENGTH!r}"),
    Angle: ("CustomAngleForce", "theta", ""),
    Dihedral: ("CustomTorsionForce", "theta", ""),
}
"""Force for terms of one coordinate, what it calls that coordinate, and how its unit becomes ours."""


def recipe(bound: Bound) -> Recipe:
    """The fastest of OpenMM's forces that has the form of a bonded term."""
    return native(bound) or custom(bound)


def native(bound: Bound) -> Recipe | None:
    """The term as OpenMM's own force of that form, or None if there is none."""
    atoms = bound.tuples.idx.tolist()
    if type(bound.term) in _HARMONIC:
        force, unit_k, unit_0 = _HARMONIC[type(bound.term)]
        ends = bound.term.coordinates[0].atoms
        rows = [([row[a] for a in ends], [q0 * unit_0, k * unit_k]) for row, (k, q0) in _rows(bound)]
    elif type(bound.term) is RyckaertBellemans:
        force, rows = "RBTorsionForce", [(row, [c * ENERGY for c in values]) for row, values in _rows(bound)]
    elif (series := fourier(bound)) is not None:
        force, rows = "PeriodicTorsionForce", []
        for row, found in zip(atoms, series, strict=True):
            for dihedral in bound.term.coordinates:
                rows += [([row[a] for a in dihedral.atoms], [n, phase, k * ENERGY]) for n, phase, k in found]
    else:
        return None
    return _recipe(force, bound.term.name, "", (), rows)


def custom(bound: Bound) -> Recipe:
    """Any bonded term as a custom force made from its expression and coordinates.

    Raises:
        ExportError: for a pair term, which is not a sum over bonded tuples.
    """
    term = bound.term
    if isinstance(term, PairTerm):
        raise ExportError(f"{term.name} is a pair term; it has no bonded force")
    names = tuple(p.name for p in term.params)
    if len(term.coordinates) == 1:
        (coordinate,), (q,) = term.coordinates, term.q_names
        force, own, factor = _ONE_COORDINATE[type(coordinate)]
        if own not in names:
            energy = _energy(term.expression, [f"{q}={own}{factor}"] if q != own or factor else [])
            rows = [([row[a] for a in coordinate.atoms], values) for row, values in _rows(bound)]
            return _recipe(force, term.name, energy, names, rows, len(coordinate.atoms))
    return compound([bound])


def compound(bounds: Sequence[Bound]) -> Recipe:
    """Bonded terms on the same tuples as one force; see `espalike.export.cartesian`.

    Parameters of several terms carry the term's name; those that the terms borrow from the same term are one.
    """
    cartesian = Cartesian()
    columns: dict[str, torch.Tensor] = {}
    owner: dict[Borrow, str] = {}
    parts: list[str] = []
    definitions: list[str] = []
    for bound in bounds:
        term, prefix = bound.term, f"{bound.term.name}_" if len(bounds) > 1 else ""
        names = {}
        for param, column in zip(term.params, bound.values.unbind(-1), strict=True):
            name = owner.get(param.borrows, "") if param.borrows else ""
            if not name or not torch.equal(columns[name], column):
                name = f"{prefix}{param.name}"
                columns[name] = column
                if param.borrows:
                    owner.setdefault(param.borrows, name)
            names[param.name] = name
        first, own = _renamed(term.expression, names, prefix)
        for q, coordinate in zip(term.q_names, term.coordinates, strict=True):
            first = cartesian.express(first, q, coordinate)
            own = [cartesian.express(text, q, coordinate) for text in own]
        parts.append(f"({first})")
        definitions += own
    energy = "; ".join([f"{ENERGY!r}*({'+'.join(parts)})", *definitions, *cartesian.text()])
    values = torch.stack(list(columns.values()), dim=-1).tolist()
    rows = list(zip(bounds[0].tuples.idx.tolist(), values, strict=True))
    name = "+".join(bound.term.name for bound in bounds)
    return _recipe("CustomCompoundBondForce", name, energy, tuple(columns), rows, bounds[0].term.kind.size)


def _renamed(expression: str, names: dict[str, str], prefix: str) -> tuple[str, list[str]]:
    """An expression and its own definitions, with other names for parameters and a prefix for what it defines."""
    first, *own = (part.strip() for part in expression.split(";") if part.strip())
    names = names | {name: f"{prefix}{name}" for name in (part.partition("=")[0].strip() for part in own)}
    words = re.compile(r"\b[A-Za-z_]\w*\b")
    renamed = [words.sub(lambda word: names.get(word[0], word[0]), part) for part in (first, *own)]
    return renamed[0], renamed[1:]


def bonded(terms: Sequence[Bound], by_term: bool = False) -> list[tuple[int, Recipe]]:
    """The bonded terms as forces, each with the position of its (first) term: one force a term, or what is faster.

    Faster is one compound force for all terms that need one on the same tuples, and one row for a cosine series.
    """
    made: list[tuple[int, Recipe]] = []
    open_: dict[Any, list[int]] = {}
    for number, bound in enumerate(terms):
        if isinstance(bound.term, PairTerm):
            continue
        one = cosine_series(bound) if type(bound.term) is PeriodicProper and not by_term else recipe(bound)
        if by_term or one["force"] != "CustomCompoundBondForce":
            made.append((number, one))
        else:
            open_.setdefault((bound.term.kind, bound.tuples.idx.numpy().tobytes()), []).append(number)
    made += [(numbers[0], compound([terms[n] for n in numbers])) for numbers in open_.values()]
    return sorted(made, key=lambda item: item[0])


def cosine_series(bound: Bound) -> Recipe:
    """Σₙ kₙ (1 + cos nφ) as one polynomial in cos φ a torsion, which costs what one of its periods does."""
    to_powers = np.zeros((len(PERIODS), max(PERIODS) + 1))
    for row, n in enumerate(PERIODS):
        power = np.polynomial.chebyshev.cheb2poly(np.eye(n + 1)[n])  # cos nφ = Tₙ(cos φ)
        to_powers[row, : n + 1] = power
        to_powers[row, 0] += 1.0
    powers = bound.values.numpy() @ to_powers
    names = tuple(f"c{m}" for m in range(powers.shape[1]))
    polynomial = names[-1]
    for name in reversed(names[:-1]):
        polynomial = f"{name}+u*({polynomial})"
    rows = [(row, c) for row, c in zip(bound.tuples.idx.tolist(), powers.tolist(), strict=True) if any(c)]
    return _recipe("CustomTorsionForce", bound.term.name, f"{ENERGY!r}*({polynomial}); u=cos(theta)", names, rows, 4)


def is_native_lj(bound: Bound) -> bool:
    """Whether a pair term is what `NonbondedForce` knows: Lennard-Jones with Lorentz–Berthelot mixing."""
    return type(bound.term) is LennardJones and bound.term.mixing == "lorentz-berthelot"


def pair_terms(terms: Sequence[Bound]) -> tuple[Bound | None, Bound | None, list[Bound]]:
    """Lennard-Jones and Coulomb as `NonbondedForce` has them, and the other pair terms."""
    pairs = [bound for bound in terms if isinstance(bound.term, PairTerm)]
    lj = next((b for b in pairs if is_native_lj(b)), None)
    coulomb = next((b for b in pairs if type(b.term) is Coulomb), None)
    return lj, coulomb, [b for b in pairs if b is not lj and b is not coulomb]


def pair14(bound: Bound) -> Recipe:
    """The 1-4 pairs of a pair term that `NonbondedForce` does not have, as a force over these pairs."""
    columns = [c for c, p in enumerate(bound.term.params) if not p.universal]
    names = [bound.term.params[c].name for c in columns]
    energy = _energy(bound.term.expression, _pair_definitions(bound), repr(float(bound.scale14)))
    rows = []
    if bound.tuples.is14 is not None:
        for i, j in bound.tuples.idx[bound.tuples.is14].tolist():
            rows.append(([i, j], [*bound.values[i, columns].tolist(), *bound.values[j, columns].tolist()]))
    parameters = tuple(f"{name}{side}" for side in "12" for name in names)
    return _recipe("CustomBondForce", f"{bound.term.name}14", energy, parameters, rows)


def pair_force(bound: Bound, mixed: str | None = None) -> Recipe:
    """A pair term that `NonbondedForce` does not have, beyond 1-4, as `espalike_vdw` wants it.

    Universal parameters stand in the energy expression as numbers: forms that differ in them are different forms.

    Raises:
        ExportError: when the form states no combining rule, or `mixed` is "lj" and it has no sigma and epsilon.
    """
    term = bound.term
    if not hasattr(term, "combining"):
        raise ExportError(f"the pair term {term.name} states no combining rule (`combining`); OpenMM needs one")
    columns = [c for c, p in enumerate(term.params) if not p.universal]
    names = [term.params[c].name for c in columns]
    energy = _energy(term.expression, _pair_definitions(bound))
    if {"sigma", "epsilon"} <= set(names):
        well, _, rest = energy.partition(";")
        lj = "lj_sigma=0.5*(sigma1+sigma2); lj_epsilon=sqrt(epsilon1*epsilon2)"
        beside = f"{well}-{ENERGY!r}*4*lj_epsilon*(lj_six*lj_six-lj_six); lj_six=(lj_sigma/r)^6; {lj};{rest}"
    elif mixed == "lj":
        raise ExportError(f"mixed='lj' needs sigma and epsilon; {term.name} has {', '.join(names)}")
    else:
        beside = ""
    return {
        "name": term.name,
        "class": f"espalike-{term.name}-{hashlib.sha256(energy.encode()).hexdigest()[:8]}",
        "mixed": mixed,
        "energy": energy,
        "beside_lj": beside,
        "parameters": names,
        "values": bound.values[:, columns].tolist(),
    }


def particles(lj: Bound | None, coulomb: Bound | None, n_atoms: int) -> list[tuple[float, float, float]]:
    """Charge, sigma and epsilon of each atom in OpenMM's units; zero charge and well where there is no such term."""
    charge = [0.0] * n_atoms if coulomb is None else coulomb.values[:, 0].tolist()
    wells = [[1.0, 0.0]] * n_atoms if lj is None else lj.values[:, :2].tolist()
    return [(q, s * LENGTH, e * ENERGY) for q, (s, e) in zip(charge, wells, strict=True)]


def exceptions(pairs: Sequence[Bound], n_atoms: int) -> list[tuple[list[int], list[float]]]:
    """The pairs up to 1-4, which `NonbondedForce` shall not derive from the atoms: charge product, sigma, epsilon."""
    lj, coulomb, _ = pair_terms(pairs)
    none = np.zeros((n_atoms, n_atoms))
    scale_lj = none if lj is None else pair_scales(lj, n_atoms)
    scale_q = none if coulomb is None else pair_scales(coulomb, n_atoms)
    atoms, rows = particles(lj, coulomb, n_atoms), []
    for i, j in up_to_14(pairs, n_atoms):
        (qi, si, ei), (qj, sj, ej) = atoms[i], atoms[j]
        well = float(np.sqrt(ei * ej) * scale_lj[i, j])
        rows.append(([i, j], [float(qi * qj * scale_q[i, j]), (si + sj) / 2, well]))
    return rows


def up_to_14(pairs: Sequence[Bound], n_atoms: int) -> list[tuple[int, int]]:
    """Pairs of atoms that a pair term leaves out or scales; all pair terms together, since engines want one list."""
    near = np.zeros((n_atoms, n_atoms), dtype=bool)
    for bound in pairs:
        idx, is14 = bound.tuples.idx.numpy(), bound.tuples.is14
        full = idx if is14 is None else idx[~is14.numpy()]
        far = np.zeros_like(near)
        far[full.min(axis=1), full.max(axis=1)] = True
        near |= ~far
    return [(i, j) for i, j in np.argwhere(np.triu(near, 1)).tolist()]


def _recipe(force: str, name: str, energy: str, parameters: tuple[str, ...], rows, size: int = 0) -> Recipe:
    return {
        "force": force, "name": name, "size": size,
        "energy": energy, "parameters": list(parameters), "rows": list(rows),
    }  # fmt: skip


def _rows(bound: Bound) -> list[tuple[list[int], list[float]]]:
    return list(zip(bound.tuples.idx.tolist(), bound.values.tolist(), strict=True))


def _energy(expression: str, definitions: list[str], scale: str = "") -> str:
    """An expression in OpenMM's energy unit; definitions see those after them, so that r may be redefined by r."""
    first, _, own = expression.partition(";")
    factors = f"{ENERGY!r}*{scale}*" if scale else f"{ENERGY!r}*"
    return "; ".join([f"{factors}({first})", *([own.strip()] if own.strip() else []), *definitions])


def _pair_definitions(bound: Bound) -> list[str]:
    universal = [
        f"{p.name}{side}={value!r}"
        for p, value in zip(bound.term.params, bound.values[0].tolist(), strict=True)
        if p.universal and p.name != "scale14"
        for side in "12"
    ]
    (q,) = bound.term.q_names
    return [bound.term.combining, *universal, f"{q}=r/{LENGTH!r}"]  # type: ignore[attr-defined]
