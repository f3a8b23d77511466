"""An `MMSystem` as an `openmm.System`: native forces where OpenMM has the form, custom forces otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from espalike.export.recipes import bonded, exceptions, pair14, pair_force, pair_terms, particles, up_to_14
from espalike.export.single import facts, select
from espalike.system import Bound, MMSystem
from espalike.terms.base import PairTerm

if TYPE_CHECKING:
    import openmm


def to_openmm(system: MMSystem, index: int | None = None, by_term: bool = False) -> openmm.System:
    """An `openmm.System` of one molecule: particles in input order, no constraints, no cut-off.

    Bonded terms are forces named after the term, in a force group of their own (the term's position in
    `system.terms`); couplings on the same tuples share a force, named after all of them, unless `by_term`.
    Lennard-Jones and Coulomb share one `NonbondedForce` in the group of the first of them. Another pair term is two
    forces in one group: all pairs beyond 1-4, and the 1-4 pairs (named after the term and `14`).

    Args:
        system: parametrized molecules.
        index: which molecule; may be left out if there is one.
        by_term: whether every bonded term is to be a force of its own, for energies by term; slower for class II.

    Raises:
        ExportError: when the system is not fit for export (see `select`) or a pair term states no combining rule.
    """
    import openmm
    from openmm.app.element import Element

    from espalike.export.ffxml_script import espalike_extend

    one = select(system, index)
    result = openmm.System()
    for number in one.numbers.tolist():
        result.addParticle(Element.getByAtomicNumber(number).mass)
    itself = [list(range(len(one.numbers)))]
    pairs = [bound for bound in one.terms if isinstance(bound.term, PairTerm)]
    lj, coulomb, others = pair_terms(one.terms)
    for group, made in bonded(one.terms, by_term):
        espalike_extend(result, made, itself).setForceGroup(group)
    for group, bound in enumerate(one.terms):
        if bound in others:
            force = _custom_pairs(bound, pairs, len(one.numbers))
            force.setForceGroup(group)
            result.addForce(force)
            espalike_extend(result, pair14(bound), itself).setForceGroup(group)
    native = [(group, bound) for group, bound in enumerate(one.terms) if bound is lj or bound is coulomb]
    if native:
        force = _nonbonded_force(pairs, len(one.numbers))
        force.setForceGroup(native[0][0])
        force.setName("+".join(bound.term.name for _, bound in native))
        result.addForce(force)
    return result


def to_system_xml(system: MMSystem, index: int | None = None, info: Mapping[str, str] | None = None) -> str:
    """`to_openmm` serialized, with provenance in a comment at the end (OpenMM wants the first tag to be the system).

    Raises:
        ExportError: see `to_openmm`.
    """
    import openmm

    result = to_openmm(system, index)
    molecule = system.molecules[index or 0]
    lines = [re.sub("-(?=-)", "- ", f"  {key}: {text}") for key, text in facts(molecule, info).items()]
    return "\n".join([openmm.XmlSerializer.serialize(result).rstrip(), "<!--", *lines, "-->", ""])


def _custom_pairs(bound: Bound, pairs: list[Bound], n_atoms: int) -> openmm.CustomNonbondedForce:
    """All pairs beyond 1-4 of a pair term that `NonbondedForce` does not have."""
    from espalike.export.ffxml_script import espalike_pair_force

    vdw = pair_force(bound)
    force = espalike_pair_force(vdw, vdw["energy"], n_atoms, up_to_14(pairs, n_atoms))
    for atom, values in enumerate(vdw["values"]):
        force.setParticleParameters(atom, values)
    return force


def _nonbonded_force(pairs: list[Bound], n_atoms: int) -> openmm.NonbondedForce:
    """Lennard-Jones and Coulomb as one force; pairs up to three bonds apart become exceptions."""
    import openmm

    lj, coulomb, _ = pair_terms(pairs)
    force = openmm.NonbondedForce()
    force.setNonbondedMethod(openmm.NonbondedForce.NoCutoff)
    for charge, sigma, epsilon in particles(lj, coulomb, n_atoms):
        force.addParticle(charge, sigma, epsilon)
    for (i, j), values in exceptions(pairs, n_atoms):
        force.addException(i, j, *values)
    return force
