"""Pair terms as OpenMM forces: in `NonbondedForce` where it has the form, else as custom forces."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from espalike.export.engine import Place, place_of, rule_of, shapes
from espalike.export.nonbonded import Nonbonded, near_pairs, pair_keys, pair_scales
from espalike.export.parts import ENERGY, LENGTH, ExportError, Single
from espalike.export.recipes import Recipe, in_kj
from espalike.system import Bound
from espalike.terms.base import PairTerm
from espalike.terms.coulomb import Coulomb
from espalike.terms.lennard_jones import LennardJones
from espalike.terms.primitives import TwelveSix

MIXED = (None, "lj")
"""Values of `mixed`: how a van der Waals form other than Lennard-Jones interacts with other force fields."""
_SCALES = {"coulomb14scale": Coulomb().scale14, "lj14scale": LennardJones().scale14}
"""Amber's 1-4 factors: OpenMM requires the same ones in all files that it loads together."""


def is_native_lj(bound: Bound) -> bool:
    """Whether a pair term is 12-6 with Lorentz–Berthelot mixing, which `NonbondedForce` has."""
    return isinstance(shapes(bound.term)[0], TwelveSix) and rule_of(bound.term) == "lorentz-berthelot"


def split(terms: Sequence[Bound]) -> tuple[Bound | None, Bound | None, list[Bound]]:
    """The 12-6 and the Coulomb term that go into `NonbondedForce`, and the other pair terms."""
    pairs = [bound for bound in terms if isinstance(bound.term, PairTerm)]
    lj = next((b for b in pairs if is_native_lj(b)), None)
    coulomb = next((b for b in pairs if place_of(b.term, shapes(b.term)[0]) == Place.CHARGES), None)
    return lj, coulomb, [b for b in pairs if b is not lj and b is not coulomb]


def pair14(bound: Bound) -> Recipe:
    """The 1-4 pairs of a pair term that `NonbondedForce` does not have, as a force over these pairs."""
    columns = [c for c, p in enumerate(bound.term.params) if not p.universal]
    names = [bound.term.params[c].name for c in columns]
    pairs, values = near_pairs(bound, len(bound.values))[1], bound.values[:, columns].tolist()
    rows = [([i, j], [*values[i], *values[j]]) for i, j in pairs.tolist()]
    return {
        "force": "CustomBondForce", "name": f"{bound.term.name}14", "size": 0,
        "energy": _energy(bound, repr(float(bound.scale14))),
        "parameters": [f"{name}{side}" for side in "12" for name in names], "rows": rows,
    }  # fmt: skip


def pair_force(bound: Bound, mixed: str | None = None) -> Recipe:
    """A pair term that `NonbondedForce` does not have, beyond 1-4, in the form that `espalike_vdw` takes.

    Universal parameters stand in the energy expression as numbers: forms that differ in them are different forms.

    Raises:
        ExportError: when `mixed` is "lj" and the form has no sigma and epsilon.
    """
    term = bound.term
    columns = [c for c, p in enumerate(term.params) if not p.universal]
    names = [term.params[c].name for c in columns]
    energy = _energy(bound)
    if {"sigma", "epsilon"} <= set(names):
        well, _, rest = energy.partition(";")
        lj = "lj_sigma=0.5*(sigma1+sigma2); lj_epsilon=sqrt(epsilon1*epsilon2)"
        distance = f"lj_r=r/{LENGTH!r}"
        beside = (
            f"{well}-{ENERGY!r}*4*lj_epsilon*(lj_six*lj_six-lj_six); lj_six=(lj_sigma/lj_r)^6; {lj};{rest}; {distance}"
        )
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


def _energy(bound: Bound, scale: str = "") -> str:
    """Energy [kJ/mol] of a pair from the parameters of its atoms and the distance r [nm]."""
    (primitive,) = shapes(bound.term)
    universal = [
        f"{p.name}{side}={value!r}"
        for p, value in zip(bound.term.params, bound.values[0].tolist(), strict=True)
        if p.universal and p.name != "scale14"
        for side in "12"
    ]
    (q,) = primitive.names
    combining = bound.term.combining  # type: ignore[attr-defined]
    return in_kj(primitive.expression, [combining, *universal, f"{q}=r/{LENGTH!r}"], scale)


def particles(pairs: Nonbonded) -> np.ndarray:
    """Charge [e], sigma [nm] and epsilon [kJ/mol] of each atom, shape `(A, 3)`."""
    return np.column_stack([pairs.charges, pairs.wells * [LENGTH, ENERGY]])


@dataclass(frozen=True, eq=False)
class Exceptions:
    """Pairs that `NonbondedForce` must not derive from the atoms, see `excepted`.

    Attributes:
        pairs: the pairs, rows sorted, shape `(P, 2)`.
        values: charge product [e²], sigma [nm], epsilon [kJ/mol], shape `(P, 3)`.
    """

    pairs: np.ndarray
    values: np.ndarray

    def rows(self) -> list[tuple[list[int], list[float]]]:
        """Pairs and values as lists."""
        return list(zip(self.pairs.tolist(), self.values.tolist(), strict=True))


def exceptions(pairs: Nonbonded, near: np.ndarray) -> Exceptions:
    """The exceptions of `NonbondedForce`.

    Args:
        pairs: charges and wells.
        near: the pairs, see `excepted`.
    """
    scale_lj, scale_q = (
        0.0 if bound is None else pair_scales(bound, near, pairs.n_atoms)
        for bound in (pairs.van_der_waals, pairs.coulomb)
    )
    sigma, epsilon = pairs.pairs(near, within=True).T
    qq = pairs.charges[near[:, 0]] * pairs.charges[near[:, 1]] * scale_q
    return Exceptions(near, np.stack([qq, sigma * LENGTH, epsilon * ENERGY * scale_lj], axis=1))


_MOST_ATOMS = 1000
"""Molecules of more atoms get no list of all of their pairs, which would have half a million rows."""


def excepted(terms: Sequence[Bound], n_atoms: int) -> np.ndarray:
    """Pairs of atoms that a pair term leaves out or scales, rows sorted, shape `(P, 2)`.

    It is one list for all pair terms, since engines need one. Where pairs of one molecule have separate parameters,
    it is all of its pairs, without those between the molecules of a complex.

    Raises:
        ExportError: for a molecule that has too many of them.
    """
    own = next((b for b in terms if isinstance(b.term, PairTerm) and b.term.has_own), None)
    if own is not None:
        if n_atoms > _MOST_ATOMS:
            raise ExportError(
                f"{n_atoms} atoms: the force field has separate parameters for pairs of one molecule, so that all "
                f"pairs would be listed. Up to {_MOST_ATOMS} atoms are possible; use espalike-1 for larger molecules"
            )
        every, across = np.stack(np.triu_indices(n_atoms, 1), axis=1), own.tuples.across
        if across is None:
            return every
        between = pair_keys(own.tuples.idx[across].numpy(), n_atoms)
        return every[~np.isin(pair_keys(every, n_atoms), between)]
    different = {id(b.tuples): b for b in terms if isinstance(b.term, PairTerm)}.values()
    near = [pair_keys(pairs, n_atoms) for bound in different for pairs in near_pairs(bound, n_atoms)]
    keys = np.unique(np.concatenate([np.zeros(0, np.int64), *near]))
    return np.stack(np.divmod(keys, max(n_atoms, 1)), axis=1)


@dataclass(frozen=True, eq=False)
class FilePairs:
    """The pair terms of one molecule as a force-field file holds them.

    Attributes:
        particles: charge [e], sigma [nm], epsilon [kJ/mol] of each atom, `(A, 3)`; empty without pair terms.
        scales: attributes of the tag.
        exceptions: pairs three or more bonds apart that OpenMM would get wrong by the tag; for the script.
        vdw: the van der Waals form if `NonbondedForce` does not have it; for the script.
        forces: its 1-4 pairs; for the script.
        facts: what the file states about mixed pairs.
    """

    particles: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    scales: dict[str, float] = field(default_factory=lambda: dict(_SCALES))
    exceptions: list[tuple[list[int], list[float]]] = field(default_factory=list)
    vdw: dict[str, Any] | None = None
    forces: list[Recipe] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)


_FACT = {
    None: "The van der Waals form is {name}. The file does not say how it interacts with Lennard-Jones atoms of "
    "another force field: building a system with such atoms is an error. Write it with mixed='lj' to allow them.",
    "lj": "The van der Waals form is {name}. Pairs with atoms of another force field are treated by Lennard-Jones 12-6 "
    "with the sigma and epsilon of the NonbondedForce tag and Lorentz-Berthelot mixing.",
}


def file_pairs(single: Single, mixed: str | None) -> FilePairs:
    """The pair terms of a molecule for a force-field file.

    Raises:
        ExportError: when pairs do not follow from the bonds.
    """
    terms, n_atoms = single.pair_terms, single.molecule.n_atoms
    if not terms:
        return FilePairs()
    single.check_pairs()
    lj, coulomb, others = split(terms)
    pairs = Nonbonded(lj, coulomb, n_atoms)
    if not others:
        scales = (pairs.scale_charge, pairs.scale_lj)
        amber = all(abs(a - b) < 1e-12 for a, b in zip(scales, _SCALES.values(), strict=True))
        usual = amber and not pairs.has_own
        return FilePairs(particles(pairs), exceptions=[] if usual else _scaled(single, n_atoms))
    (form,) = others
    return FilePairs(
        particles=_with_wells(form, coulomb, n_atoms),
        exceptions=_scaled(single, n_atoms),
        vdw=pair_force(form, mixed),
        forces=[pair14(form)],
        facts={"MixedPairs": _FACT[mixed].format(name=form.term.name)},
    )


def _scaled(single: Single, n_atoms: int) -> list[tuple[list[int], list[float]]]:
    """Exceptions that are three or more bonds apart."""
    lj, coulomb, _ = split(single.pair_terms)
    every = exceptions(Nonbonded(lj, coulomb, n_atoms), excepted(single.pair_terms, n_atoms))
    far = ~np.isin(pair_keys(every.pairs, n_atoms), pair_keys(single.topology.excluded, n_atoms))
    return Exceptions(every.pairs[far], every.values[far]).rows()


def _with_wells(form: Bound, coulomb: Bound | None, n_atoms: int) -> np.ndarray:
    """Particles whose Lennard-Jones well is the form's: for pairs with other force fields."""
    names = [p.name for p in form.term.params]
    if not {"sigma", "epsilon"} <= set(names):
        return particles(Nonbonded(None, coulomb, n_atoms))
    wells = form.values[:, [names.index("sigma"), names.index("epsilon")]]
    return particles(Nonbonded(Bound(LennardJones(), form.tuples, wells), coulomb, n_atoms))
