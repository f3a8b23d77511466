"""An `MMSystem` as an `openmm.System`: native forces where OpenMM has the form, custom forces otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from espalike.export.engine import Cell, Engine, has_expression
from espalike.export.pairs import exceptions, pair14, pair_force, particles, split, up_to_14
from espalike.export.parts import Nonbonded, Single, facts
from espalike.export.recipes import TORSIONS, bonded, cells
from espalike.system import Bound, MMSystem

if TYPE_CHECKING:
    import openmm

ENGINE = Engine("system", cells("{}", "custom force"), Cell("custom force", has_expression), frozenset())


def to_openmm(
    system: MMSystem, index: int | None = None, by_term: bool = False, torsions: str = "native"
) -> openmm.System:
    """An `openmm.System` of one molecule: particles in input order, no constraints, no cut-off.

    Harmonic bonds, harmonic angles and Fourier series are rows of one `HarmonicBondForce`, `HarmonicAngleForce` and
    `PeriodicTorsionForce`, 12-6 and Coulomb of one `NonbondedForce`; a class I force field has these four forces. What
    OpenMM has no force for becomes custom forces; couplings on the same tuples share one. Another pair term is two
    forces: all pairs beyond 1-4, and the 1-4 pairs (named after the term and `14`). Forces carry the names of their
    terms, joined by `+`, and the first term's position in `system.terms` as force group.

    Args:
        system: parametrized molecules.
        index: which molecule; may be left out if there is one.
        by_term: whether bonded terms must not share forces, for energies by term.
        torsions: `native`, or `custom`: cosine series as one polynomial in cos φ per torsion in a `CustomTorsionForce`.

    Raises:
        ExportError: when the system is not fit for export (see `select`) or a pair term states no combining rule.
        ValueError: for another value of `torsions`.
    """
    import openmm
    from openmm.app.element import Element

    from espalike.export.ffxml_script import espalike_extend

    if torsions not in TORSIONS:
        raise ValueError(f"torsions={torsions!r}: expected one of {', '.join(map(repr, TORSIONS))}")
    single = Single.of(system, index, ENGINE)
    one = single.system
    result = openmm.System()
    for number in one.numbers.tolist():
        result.addParticle(Element.getByAtomicNumber(number).mass)
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


def to_system_xml(
    system: MMSystem, index: int | None = None, info: Mapping[str, str] | None = None, torsions: str = "native"
) -> str:
    """`to_openmm` serialized, with provenance in a comment at the end (OpenMM requires the system to be the first tag).

    Raises:
        ExportError, ValueError: see `to_openmm`.
    """
    import openmm

    result = to_openmm(system, index, torsions=torsions)
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
