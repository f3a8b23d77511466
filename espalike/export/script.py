"""The `<Script>` of an exported `ForceField` XML, and what the nonbonded tag and the script share of the pair terms."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass, field
from typing import Any

from espalike.chem.molecule import Molecule
from espalike.export.classical import follow_from_bonds
from espalike.export.recipes import Recipe, exceptions, pair14, pair_force, pair_terms, particles
from espalike.export.single import ExportError
from espalike.system import Bound, MMSystem
from espalike.terms.base import PairTerm
from espalike.terms.coulomb import Coulomb
from espalike.terms.lennard_jones import LennardJones
from espalike.topology import enumerate_tuples

MIXED = (None, "lj")
"""Answers to how a van der Waals form of its own meets other force fields."""
_SCALES = {"coulomb14scale": Coulomb().scale14, "lj14scale": LennardJones().scale14}
"""Amber's 1-4 factors: OpenMM wants the same ones in every file that it loads together."""


@dataclass(frozen=True)
class Nonbonded:
    """The pair terms of one molecule as a force-field file holds them.

    Attributes:
        particles: charge [e], sigma [nm], epsilon [kJ/mol] of each atom, for the tag; empty without pair terms.
        scales: attributes of the tag.
        exceptions: pairs up to 1-4 to which the tag's 1-4 factors would do wrong; for the script.
        vdw: the van der Waals form if `NonbondedForce` does not have it; for the script.
        forces: its 1-4 pairs; for the script.
        facts: what the file says of mixed pairs.
    """

    particles: list[tuple[float, float, float]] = field(default_factory=list)
    scales: dict[str, float] = field(default_factory=lambda: dict(_SCALES))
    exceptions: list[tuple[list[int], list[float]]] = field(default_factory=list)
    vdw: dict[str, Any] | None = None
    forces: list[Recipe] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)


def nonbonded(one: MMSystem, mixed: str | None) -> Nonbonded:
    """The pair terms of a one-molecule system.

    Raises:
        ExportError: when pairs do not follow from the bonds, or there are several van der Waals terms.
    """
    molecule = one.molecules[0]
    pairs = [bound for bound in one.terms if isinstance(bound.term, PairTerm)]
    if not pairs:
        return Nonbonded()
    for bound in pairs:
        follow_from_bonds(molecule, bound, "ffxml")
    lj, coulomb, others = pair_terms(pairs)
    if len(others) + (lj is not None) > 1:
        names = ", ".join(b.term.name for b in pairs if b is not coulomb)
        raise ExportError(
            f"{molecule.name}: format 'ffxml' holds one van der Waals term; here are {names}; format 'system' holds all"
        )
    amber = (coulomb is None or _is(coulomb, "coulomb14scale")) and (lj is None or _is(lj, "lj14scale"))
    if not others:
        atoms = particles(lj, coulomb, molecule.n_atoms)
        return Nonbonded(atoms, exceptions=[] if amber else _scaled(pairs, molecule))
    (form,) = others
    vdw = pair_force(form, mixed)
    return Nonbonded(
        particles=_with_wells(form, coulomb, molecule.n_atoms),
        exceptions=_scaled(pairs, molecule),
        vdw=vdw,
        forces=[pair14(form)],
        facts={"MixedPairs": _FACT[mixed].format(name=form.term.name)},
    )


_FACT = {
    None: "The van der Waals form is {name}. The file does not say how it meets Lennard-Jones atoms of another force "
    "field: building a system with such atoms is an error. Written with mixed='lj' it would.",
    "lj": "The van der Waals form is {name}. Pairs with atoms of another force field are treated by Lennard-Jones 12-6 "
    "with the sigma and epsilon of the NonbondedForce tag and Lorentz-Berthelot mixing.",
}


def _is(bound: Bound, scale: str) -> bool:
    return abs(float(bound.scale14) - _SCALES[scale]) < 1e-12


def _scaled(pairs: list[Bound], molecule: Molecule) -> list[tuple[list[int], list[float]]]:
    """The 1-4 pairs of `exceptions`; the excluded ones need no help."""
    graph = enumerate_tuples(molecule.numbers, molecule.bonds, molecule.orders)
    is14 = {(i, j) for i, j in graph.pairs[graph.is14].tolist()}
    return [(row, values) for row, values in exceptions(pairs, molecule.n_atoms) if tuple(row) in is14]


def _with_wells(form: Bound, coulomb: Bound | None, n_atoms: int) -> list[tuple[float, float, float]]:
    """Particles whose Lennard-Jones well is the form's: for pairs with other force fields."""
    names = [p.name for p in form.term.params]
    if not {"sigma", "epsilon"} <= set(names):
        return particles(None, coulomb, n_atoms)
    wells = form.values[:, [names.index("sigma"), names.index("epsilon")]]
    return particles(Bound(LennardJones(), form.tuples, wells), coulomb, n_atoms)


def script(molecule: Molecule, types: list[str], forces: list[Recipe], pairs: Nonbonded) -> str:
    """The text of `<Script>`: its fixed part, a table, and the call; empty if nothing is left for it to do."""
    forces = [made for made in (*forces, *pairs.forces) if made["rows"]]
    if not forces and not pairs.exceptions and not pairs.vdw:
        return ""
    from espalike.export import ffxml_script

    lines = ["espalike_table = {"]
    lines += [f" 'molecule': {molecule.name!r},", f" 'types': {types!r},", " 'forces': ["]
    for made in forces:
        lines += ["  {", *(f"   {key!r}: {made[key]!r}," for key in made if key != "rows"), "   'rows': ["]
        lines += [*(f"    {_row(row)}," for row in made["rows"]), "   ],", "  },"]
    lines += [" ],", " 'exceptions': [", *(f"  {_row(row)}," for row in pairs.exceptions), " ],"]
    if pairs.vdw is None:
        lines += [" 'vdw': None,"]
    else:
        lines += [" 'vdw': {", *(f"  {key!r}: {item!r}," for key, item in pairs.vdw.items() if key != "values")]
        lines += ["  'values': [", *(f"   {row!r}," for row in pairs.vdw["values"]), "  ],", " },"]
    lines += ["}", "espalike_apply(sys, data, self, espalike_table)"]
    return "\n".join(["", inspect.getsource(ffxml_script).rstrip(), "", "", *lines, ""])


def _row(row: tuple[list[int], list[float]]) -> str:
    atoms, values = row
    return f"({json.dumps(list(atoms))}, {list(values)!r})"
