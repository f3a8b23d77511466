"""An `MMSystem` as an `openmm.System`: native forces where OpenMM has the form, custom forces otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from espalike.export.engine import Cell, Engine, has_expression
from espalike.export.pairs import exceptions, pair14, pair_force, particles, split, up_to_14
from espalike.export.parts import Nonbonded, Single
from espalike.export.recipes import TORSIONS, bonded, cells
from espalike.system import Bound

if TYPE_CHECKING:
    import openmm

ENGINE = Engine("system", cells("{}", "custom force"), Cell("custom force", has_expression), frozenset())


def to_system(single: Single, by_term: bool = False, torsions: str = "native") -> openmm.System:
    """An `openmm.System` of one molecule; see `espalike.export.to_openmm`."""
    import openmm
    from openmm.app.element import Element

    from espalike.export.ffxml_script import espalike_extend

    if torsions not in TORSIONS:
        raise ValueError(f"torsions={torsions!r}: expected one of {', '.join(map(repr, TORSIONS))}")
    one = single.system
    result = openmm.System()
    for mass in single.molecule.masses(lambda number: Element.getByAtomicNumber(number).mass._value):
        result.addParticle(mass)
    itself = [list(range(len(one.numbers)))]
    lj, coulomb, others = split(one.terms)
    for group, made in bonded(single.parts, by_term, torsions):
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


def texts(single: Single, torsions: str = "native") -> dict[str, str]:
    """The system serialized, by ending; its provenance is at the end, since OpenMM requires the system's tag first."""
    import openmm

    xml = openmm.XmlSerializer.serialize(to_system(single, torsions=torsions)).rstrip()
    return {".system.xml": "\n".join([xml, "<!--", *(f"  {line}" for line in single.xml_comment), "-->", ""])}


def _custom_pairs(bound: Bound, pairs: list[Bound], n_atoms: int) -> openmm.CustomNonbondedForce:
    """All pairs beyond 1-4 of a pair term that `NonbondedForce` does not have."""
    from espalike.export.ffxml_script import espalike_pair_force

    vdw = pair_force(bound)
    force = espalike_pair_force(vdw, vdw["energy"], n_atoms, up_to_14(pairs, n_atoms))
    for atom, values in enumerate(vdw["values"]):
        force.setParticleParameters(atom, values)
    return force


def _nonbonded_force(pairs: list[Bound], n_atoms: int) -> openmm.NonbondedForce:
    """12-6 and Coulomb as one force; pairs up to three bonds apart become exceptions."""
    import openmm

    lj, coulomb, _ = split(pairs)
    force = openmm.NonbondedForce()
    force.setNonbondedMethod(openmm.NonbondedForce.NoCutoff)
    for charge, sigma, epsilon in particles(Nonbonded(lj, coulomb, n_atoms)):
        force.addParticle(charge, sigma, epsilon)
    for (i, j), values in exceptions(pairs, n_atoms):
        force.addException(i, j, *values)
    return force
