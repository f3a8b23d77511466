"""An `MMSystem` as an `openmm.System`: native forces where OpenMM has the form, custom forces otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from espalike.export.engine import Cell, Engine, has_expression
from espalike.export.nonbonded import Nonbonded
from espalike.export.pairs import excepted, exceptions, pair14, pair_force, particles, split
from espalike.export.parts import Single
from espalike.export.recipes import TORSIONS, Native, bonded, cells, natives
from espalike.export.text import rows_text
from espalike.system import Bound

if TYPE_CHECKING:
    import openmm

ENGINE = Engine("system", cells("{}", "custom force"), Cell("custom force", has_expression), frozenset())


def to_system(single: Single, by_term: bool = False, torsions: str = "native") -> openmm.System:
    """An `openmm.System` of one molecule; see `espalike.export.to_openmm`."""
    import openmm

    from espalike.export.ffxml_script import espalike_extend

    _check(torsions)
    one = single.system
    result = openmm.System()
    for mass in _masses(single):
        result.addParticle(mass)
    itself = [list(range(len(one.numbers)))]
    lj, coulomb, others = split(one.terms)
    for group, made in bonded(single.parts, by_term, torsions):
        if made["energy"] and not made["rows"]:
            continue  # OpenMM would compile the expression, for seconds where it is a coupling
        espalike_extend(result, made, itself).setForceGroup(group)
    for group, bound in enumerate(one.terms):
        if bound in others:
            force = _custom_pairs(bound, single.pair_terms, len(one.numbers))
            force.setForceGroup(group)
            result.addForce(force)
            espalike_extend(result, pair14(bound), itself).setForceGroup(group)
    native = [(group, bound) for group, bound in enumerate(one.terms) if bound is lj or bound is coulomb]
    if native:
        force = _nonbonded_force(single.pair_terms, len(one.numbers))
        force.setForceGroup(native[0][0])
        force.setName("+".join(bound.term.name for _, bound in native))
        result.addForce(force)
    return result


def _check(torsions: str) -> None:
    if torsions not in TORSIONS:
        raise ValueError(f"torsions={torsions!r}: expected one of {', '.join(map(repr, TORSIONS))}")


def _masses(single: Single) -> list[float]:
    """Masses of the atoms [dalton], natural ones as OpenMM has them."""
    return single.molecule.masses(natural_mass)


@cache
def natural_mass(number: int) -> float:
    """Mass of an element [dalton], as OpenMM has it."""
    from openmm.app.element import Element

    return Element.getByAtomicNumber(number).mass._value


def texts(single: Single, torsions: str = "native") -> dict[str, str]:
    """The system serialized, by ending; its provenance is at the end, since OpenMM requires the system's tag first.

    A system of native forces is written as OpenMM's own text of the same forces without rows, and rows from arrays:
    that is ten times faster than OpenMM's objects. `to_system` makes the others.
    """
    import openmm

    _check(torsions)
    forces = natives(single.parts) if torsions == "native" else None
    if forces and not split(single.pair_terms)[2]:
        xml = _native_text(single, forces)
    else:
        xml = openmm.XmlSerializer.serialize(to_system(single, torsions=torsions)).rstrip()
    return {".system.xml": "\n".join([xml, "<!--", *(f"  {line}" for line in single.xml_comment), "-->", ""])}


_ROWS = {
    "HarmonicBondForce": ("Bonds", '<Bond p1="%s" p2="%s" d="%r" k="%r"/>'),
    "HarmonicAngleForce": ("Angles", '<Angle p1="%s" p2="%s" p3="%s" a="%r" k="%r"/>'),
    "PeriodicTorsionForce": (
        "Torsions",
        '<Torsion p1="%s" p2="%s" p3="%s" p4="%s" periodicity="%s" phase="%r" k="%r"/>',
    ),
}
"""Tags of OpenMM's native forces and of their rows: atoms, then values as in `recipes.NATIVE`."""


def _native_text(single: Single, forces: Sequence[Native]) -> str:
    """A system of native forces alone, serialized."""
    pairs = [(group, bound.term.name) for group, bound in enumerate(single.system.terms) if bound in single.pair_terms]
    name = (pairs[0][0], "+".join(name for _, name in pairs)) if pairs else None
    text = _frame(tuple((force.number, force.force, force.name) for force in forces), name)
    rows = [("Particles", rows_text('<Particle mass="%r"/>', _masses(single)))]
    for force in forces:
        tag, row = _ROWS[force.force]
        rows.append((tag, rows_text(row, *force.atoms.T, *force.columns)))
    if pairs:
        lj, coulomb, _ = split(single.pair_terms)
        nonbonded = Nonbonded(lj, coulomb, single.molecule.n_atoms)
        near = exceptions(nonbonded, excepted(single.pair_terms, single.molecule.n_atoms))
        atoms = rows_text('<Particle q="%r" sig="%r" eps="%r"/>', *particles(nonbonded).T)
        row = '<Exception p1="%s" p2="%s" q="%r" sig="%r" eps="%r"/>'
        rows += [("Particles", atoms), ("Exceptions", rows_text(row, *near.pairs.T, *near.values.T))]
    return _filled(text, rows)


def _filled(text: str, rows: Sequence[tuple[str, str]]) -> str:
    """The text with rows in its empty tags, which come in the order of the text."""
    parts = []
    for tag, content in rows:
        before, empty, text = text.partition(f"<{tag}/>")
        parts += [before, f"<{tag}>\n{content}</{tag}>" if content else empty]
    return "".join([*parts, text])


@cache
def _frame(forces: tuple[tuple[int, str, str], ...], pairs: tuple[int, str] | None) -> str:
    """OpenMM's text of a system without rows: group, class and name of each force, group and name of the pairs."""
    import openmm

    system = openmm.System()
    for group, kind, name in forces:
        force = getattr(openmm, kind)()
        force.setForceGroup(group)
        force.setName(name)
        system.addForce(force)
    if pairs:
        force = openmm.NonbondedForce()
        force.setForceGroup(pairs[0])
        force.setName(pairs[1])
        system.addForce(force)
    return openmm.XmlSerializer.serialize(system).rstrip()


def _custom_pairs(bound: Bound, pairs: list[Bound], n_atoms: int) -> openmm.CustomNonbondedForce:
    """All pairs beyond 1-4 of a pair term that `NonbondedForce` does not have."""
    from espalike.export.ffxml_script import espalike_pair_force

    vdw = pair_force(bound)
    force = espalike_pair_force(vdw, vdw["energy"], n_atoms, excepted(pairs, n_atoms).tolist())
    for atom, values in enumerate(vdw["values"]):
        force.setParticleParameters(atom, values)
    return force


def _nonbonded_force(pairs: list[Bound], n_atoms: int) -> openmm.NonbondedForce:
    """12-6 and Coulomb as one force, with exceptions."""
    import openmm

    lj, coulomb, _ = split(pairs)
    force = openmm.NonbondedForce()
    force.setNonbondedMethod(openmm.NonbondedForce.NoCutoff)
    nonbonded = Nonbonded(lj, coulomb, n_atoms)
    for charge, sigma, epsilon in particles(nonbonded).tolist():
        force.addParticle(charge, sigma, epsilon)
    for (i, j), values in exceptions(nonbonded, excepted(pairs, n_atoms)).rows():
        force.addException(i, j, *values)
    return force
