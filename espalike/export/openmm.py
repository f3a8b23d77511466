"""An `MMSystem` as an `openmm.System`: native forces where OpenMM has the form, `CustomCompoundBondForce` otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from espalike.export.single import ExportError, facts, fourier, nonbonded, pair_scales, select
from espalike.geometry import Angle, Distance
from espalike.terms.angle import HarmonicAngle
from espalike.terms.base import PairTerm
from espalike.terms.bond import HarmonicBond
from espalike.types import Bound, MMSystem
from espalike.units import convert

if TYPE_CHECKING:
    import openmm

LENGTH = convert(1.0, "angstrom", "nm")
ENERGY = convert(1.0, "kcal/mol", "kJ/mol")
BOND_K = convert(1.0, "kcal/mol/angstrom**2", "kJ/mol/nm**2")


def to_openmm(system: MMSystem, index: int | None = None) -> openmm.System:
    """An `openmm.System` of one molecule: particles in input order, no constraints, no cut-off.

    Each bonded term is a force of its own, named after the term, in a force group of its own (the term's position in
    `system.terms`); Lennard-Jones and Coulomb share one `NonbondedForce` in the group of the first of them.

    Args:
        system: parametrized molecules.
        index: which molecule; may be left out if there is one.

    Raises:
        ExportError: when the system is not fit for export (see `select`) or a term has no OpenMM counterpart.
    """
    import openmm
    from openmm.app.element import Element

    one = select(system, index)
    result = openmm.System()
    for number in one.numbers.tolist():
        result.addParticle(Element.getByAtomicNumber(number).mass)
    pairs = [(g, b) for g, b in enumerate(one.terms) if isinstance(b.term, PairTerm)]
    known = nonbonded(one)
    for _, bound in pairs:
        if bound not in known:
            raise ExportError(
                f"{one.molecules[0].name}: OpenMM export has no force for the pair term {bound.term.name}"
            )
    for group, bound in enumerate(one.terms):
        if not isinstance(bound.term, PairTerm):
            force = native_force(bound) or custom_force(bound)
            force.setForceGroup(group)
            result.addForce(force)
    if pairs:
        force = _nonbonded_force(*known, n_atoms=len(one.numbers))
        force.setForceGroup(pairs[0][0])
        force.setName("+".join(bound.term.name for _, bound in pairs))
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
    lines = [f"  {key}: {text}".replace("--", "- -") for key, text in facts(molecule, info).items()]
    return "\n".join([openmm.XmlSerializer.serialize(result).rstrip(), "<!--", *lines, "-->", ""])


def native_force(bound: Bound) -> openmm.Force | None:
    """The term as OpenMM's own force of that form, or None if there is none."""
    import openmm

    if (series := fourier(bound)) is not None:
        force = _torsions(bound, series)
    elif type(bound.term) in _HARMONIC:
        name, add, unit_k, unit_0 = _HARMONIC[type(bound.term)]
        force = getattr(openmm, name)()
        for atoms, (k, q0) in zip(bound.tuples.idx.tolist(), bound.values.tolist(), strict=True):
            getattr(force, add)(*atoms, q0 * unit_0, k * unit_k)
    else:
        return None
    force.setName(bound.term.name)
    return force


_HARMONIC = {
    HarmonicBond: ("HarmonicBondForce", "addBond", BOND_K, LENGTH),
    HarmonicAngle: ("HarmonicAngleForce", "addAngle", ENERGY, 1.0),
}
"""Force, its method, and factors on k and on the equilibrium value, for terms ½ k (q − q₀)²."""


def _torsions(bound: Bound, series: list[list[tuple[int, float, float]]]) -> openmm.PeriodicTorsionForce:
    import openmm

    force = openmm.PeriodicTorsionForce()
    for atoms, row in zip(bound.tuples.idx.tolist(), series, strict=True):
        for dihedral in bound.term.coordinates:
            for n, phase, k in row:
                force.addTorsion(*(atoms[a] for a in dihedral.atoms), n, phase, k * ENERGY)
    return force


def custom_force(bound: Bound) -> openmm.CustomCompoundBondForce:
    """Any bonded term as a custom force made from its expression and coordinates.

    Raises:
        ExportError: for a pair term, which is not a sum over bonded tuples.
    """
    import openmm

    term = bound.term
    if isinstance(term, PairTerm):
        raise ExportError(f"{term.name} is a pair term; it has no CustomCompoundBondForce")
    first, _, definitions = term.expression.partition(";")
    parts = [f"{ENERGY!r}*({first})", *([definitions] if definitions.strip() else [])]
    for name, coordinate in zip(term.q_names, term.coordinates, strict=True):
        parts.append(f"{name}={_function(coordinate)}")
    force = openmm.CustomCompoundBondForce(bound.tuples.idx.shape[1], "; ".join(parts))
    for param in term.params:
        force.addPerBondParameter(param.name)
    for atoms, values in zip(bound.tuples.idx.tolist(), bound.values.tolist(), strict=True):
        force.addBond(atoms, values)
    force.setName(term.name)
    return force


def _function(coordinate) -> str:
    """An internal coordinate [Å, rad] in OpenMM's expression syntax, where lengths are nm."""
    points = ",".join(f"p{a + 1}" for a in coordinate.atoms)
    if isinstance(coordinate, Distance):
        return f"distance({points})/{LENGTH!r}"
    return f"angle({points})" if isinstance(coordinate, Angle) else f"dihedral({points})"


def _nonbonded_force(lj: Bound | None, coulomb: Bound | None, n_atoms: int) -> openmm.NonbondedForce:
    """Both pair terms as one force; pairs up to three bonds apart become exceptions."""
    import openmm

    charge = np.zeros(n_atoms) if coulomb is None else coulomb.values[:, 0].numpy()
    sigma, epsilon = (np.ones(n_atoms), np.zeros(n_atoms)) if lj is None else lj.values.numpy().T
    force = openmm.NonbondedForce()
    force.setNonbondedMethod(openmm.NonbondedForce.NoCutoff)
    for q, s, e in zip(charge.tolist(), sigma.tolist(), epsilon.tolist(), strict=True):
        force.addParticle(q, s * LENGTH, e * ENERGY)
    whole = np.ones((n_atoms, n_atoms))
    scale_lj = whole if lj is None else pair_scales(lj, n_atoms)
    scale_q = whole if coulomb is None else pair_scales(coulomb, n_atoms)
    for i, j in np.argwhere(np.triu((scale_lj != 1.0) | (scale_q != 1.0), 1)).tolist():
        well = float(np.sqrt(epsilon[i] * epsilon[j])) * scale_lj[i, j] * ENERGY
        force.addException(
            i, j, float(charge[i] * charge[j] * scale_q[i, j]), float(sigma[i] + sigma[j]) / 2 * LENGTH, float(well)
        )
    return force
