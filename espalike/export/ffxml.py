"""An `MMSystem` as an OpenMM `ForceField` XML: a residue template whose atom types belong to one molecule alone.

Format: http://docs.openmm.org/latest/userguide/application/06_creating_ffs.html. OpenMM matches a residue to a
template by its graph of elements and bonds, never by names or stereochemistry. A topology in the molecule's atom order
gets each atom's own parameters; in another order, atoms that the graph cannot tell apart may be swapped. That is
harmless where their parameters are equal, as a graph network's are, and matters only for given charges that differ
between them. Two files of one constitution (say, with different charges) need `createSystem(residueTemplates=...)`.
"""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from espalike.export.openmm import BOND_K, ENERGY, LENGTH
from espalike.export.single import ExportError, facts, fourier, nonbonded, pair_scales, select
from espalike.terms.angle import HarmonicAngle
from espalike.terms.base import PairTerm
from espalike.terms.bond import HarmonicBond
from espalike.terms.coulomb import Coulomb
from espalike.terms.lennard_jones import LennardJones
from espalike.topology import enumerate_tuples
from espalike.types import Bound, Kind, MMSystem, Molecule

if TYPE_CHECKING:
    import openmm.app


def atom_names(molecule: Molecule) -> list[str]:
    """Names unique in the molecule: element symbol and a count, in atom order (C1, H1, H2, …)."""
    from rdkit.Chem import GetPeriodicTable

    counts: dict[str, int] = {}
    names = []
    for number in molecule.numbers.tolist():
        symbol = GetPeriodicTable().GetElementSymbol(number)
        counts[symbol] = counts.get(symbol, 0) + 1
        names.append(f"{symbol}{counts[symbol]}")
    return names


def to_topology(molecule: Molecule, residue: str = "LIG") -> openmm.app.Topology:
    """An OpenMM topology of one residue, atoms in the molecule's order, as `ForceField.createSystem` wants it."""
    import openmm.app

    topology = openmm.app.Topology()
    home = topology.addResidue(residue, topology.addChain())
    elements = [openmm.app.element.Element.getByAtomicNumber(z) for z in molecule.numbers.tolist()]
    atoms = [topology.addAtom(n, e, home) for n, e in zip(atom_names(molecule), elements, strict=True)]
    for (i, j), order in zip(molecule.bonds.tolist(), molecule.orders.tolist(), strict=True):
        topology.addBond(atoms[i], atoms[j], order=order)
    return topology


def fingerprint(system: MMSystem, index: int | None = None) -> str:
    """Hash of a molecule's mapped SMILES and all its parameters: what its atom types and template are named by."""
    one = select(system, index)
    digest = hashlib.sha256(one.molecules[0].smiles.encode())
    for bound in one.terms:
        digest.update(repr(bound.term).encode())
        digest.update(np.ascontiguousarray(bound.tuples.idx.numpy(), dtype="<i8").tobytes())
        digest.update(np.ascontiguousarray(bound.values.numpy(), dtype="<f8").tobytes())
    return digest.hexdigest()[:16]


def to_ffxml(system: MMSystem, index: int | None = None, info: Mapping[str, str] | None = None) -> str:
    """The XML text of one molecule.

    Args:
        system: parametrized molecules.
        index: which molecule; may be left out if there is one.
        info: provenance to write into the file, e.g. model name and source of the charges.

    Raises:
        ExportError: when the system is not fit for export, or a term cannot be expressed in this format.
    """
    one = select(system, index)
    molecule, name = one.molecules[0], f"M{fingerprint(one)}"
    types = [f"{name}-{atom}" for atom in atom_names(molecule)]
    root = ET.Element("ForceField")
    _info(root, molecule, name, info)
    _template(root, molecule, name, types)
    torsions: list[Bound] = []
    for bound in one.terms:
        term = bound.term
        if fourier(bound) is not None:
            torsions.append(bound)
        elif type(term) in _HARMONIC:
            _harmonic(root, bound, types)
        elif type(term) not in (LennardJones, Coulomb):
            raise ExportError(f"{molecule.name}: format 'ffxml' cannot express {term.name}; format 'system' can")
    if torsions:
        _torsions(ET.SubElement(root, "PeriodicTorsionForce", ordering="smirnoff"), torsions, types)
    _nonbonded(root, one, types)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _info(root: ET.Element, molecule: Molecule, name: str, info: Mapping[str, str] | None) -> None:
    node = ET.SubElement(root, "Info")
    for key, text in (facts(molecule, info) | {"Template": name}).items():
        ET.SubElement(node, "Fact", name=key).text = text


def _template(root: ET.Element, molecule: Molecule, name: str, types: list[str]) -> None:
    from openmm import unit
    from openmm.app.element import Element

    kinds = ET.SubElement(root, "AtomTypes")
    residue = ET.SubElement(ET.SubElement(root, "Residues"), "Residue", name=name)
    names = atom_names(molecule)
    for kind, atom, number in zip(types, names, molecule.numbers.tolist(), strict=True):
        element = Element.getByAtomicNumber(number)
        mass = repr(element.mass.value_in_unit(unit.dalton))
        ET.SubElement(kinds, "Type", {"name": kind, "class": kind, "element": element.symbol, "mass": mass})
        ET.SubElement(residue, "Atom", name=atom, type=kind)
    for i, j in molecule.bonds.tolist():
        ET.SubElement(residue, "Bond", atomName1=names[i], atomName2=names[j])


_HARMONIC = {
    HarmonicBond: ("HarmonicBondForce", "Bond", "length", BOND_K, LENGTH),
    HarmonicAngle: ("HarmonicAngleForce", "Angle", "angle", ENERGY, 1.0),
}
"""Tag of the force and of a row, name of the equilibrium value, and factors on k and on it."""


def _columns(atoms, types: list[str]) -> dict[str, str]:
    return {f"type{n}": types[a] for n, a in enumerate(atoms, 1)}


def _harmonic(root: ET.Element, bound: Bound, types: list[str]) -> None:
    tag, row, zero, unit_k, unit_0 = _HARMONIC[type(bound.term)]
    force = ET.SubElement(root, tag)
    seen = set()
    for atoms, (k, q0) in zip(bound.tuples.idx.tolist(), bound.values.tolist(), strict=True):
        key = min(tuple(atoms), tuple(atoms[::-1]))
        if key in seen:  # OpenMM would use the first of them only
            raise ExportError(f"{bound.term.name} lists atoms {key} twice; format 'ffxml' cannot express that")
        seen.add(key)
        ET.SubElement(force, row, {**_columns(atoms, types), zero: repr(q0 * unit_0), "k": repr(k * unit_k)})


def _torsions(force: ET.Element, terms: list[Bound], types: list[str]) -> None:
    """Propers and impropers; rows on the same atoms are merged, since OpenMM uses the first match only."""
    merged: dict[tuple[str, tuple[int, ...]], list[tuple[int, float, float]]] = {}
    for bound in terms:
        for atoms, row in zip(bound.tuples.idx.tolist(), fourier(bound) or [], strict=True):
            if bound.term.kind is Kind.IMPROPER:  # centre first; OpenMM adds the three cyclic orders of the others
                key = ("Improper", tuple(atoms[a] for a in bound.term.coordinates[0].atoms))
            else:
                key = ("Proper", min(tuple(atoms), tuple(atoms[::-1])))
            merged.setdefault(key, []).extend(row)
    for (tag, atoms), series in merged.items():
        if series:
            columns = _columns(atoms, types)
            for n, (period, phase, k) in enumerate(series, 1):
                columns |= {f"periodicity{n}": str(period), f"phase{n}": repr(phase), f"k{n}": repr(k * ENERGY)}
            ET.SubElement(force, tag, columns)


def _nonbonded(root: ET.Element, one: MMSystem, types: list[str]) -> None:
    pairs = [bound for bound in one.terms if isinstance(bound.term, PairTerm)]
    if not pairs:
        return
    molecule, (lj, coulomb) = one.molecules[0], nonbonded(one)
    graph = enumerate_tuples(molecule.numbers, molecule.bonds, molecule.orders)
    for bound in pairs:  # OpenMM derives exclusions and 1-4 pairs from the bonds
        expected = np.zeros((molecule.n_atoms, molecule.n_atoms))
        expected[graph.pairs[:, 0], graph.pairs[:, 1]] = np.where(graph.is14, bound.term.scale14, 1.0)
        if not np.array_equal(expected, pair_scales(bound, molecule.n_atoms)):
            raise ExportError(
                f"{molecule.name}: pairs of {bound.term.name} do not follow from the bonds; format 'ffxml' cannot "
                "express that; format 'system' can"
            )
    scales = {
        "coulomb14scale": repr(float((coulomb.term if coulomb else Coulomb()).scale14)),
        "lj14scale": repr(float((lj.term if lj else LennardJones()).scale14)),
    }
    force = ET.SubElement(root, "NonbondedForce", scales)
    charge = np.zeros(len(types)) if coulomb is None else coulomb.values[:, 0].numpy()
    sigma, epsilon = (np.ones(len(types)), np.zeros(len(types))) if lj is None else lj.values.numpy().T
    for kind, q, s, e in zip(types, charge.tolist(), sigma.tolist(), epsilon.tolist(), strict=True):
        numbers = {"charge": repr(q), "sigma": repr(s * LENGTH), "epsilon": repr(e * ENERGY)}
        ET.SubElement(force, "Atom", {"type": kind, **numbers})
