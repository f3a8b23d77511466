"""An `MMSystem` as an OpenMM `ForceField` XML: a residue template whose atom types belong to one molecule alone.

Format: http://docs.openmm.org/latest/userguide/application/06_creating_ffs.html. OpenMM matches a residue to a
template by its graph of elements and bonds, never by names or stereochemistry. A topology in the molecule's atom order
gets each atom's own parameters; in another order, atoms that the graph cannot tell apart may be swapped. That is
harmless where their parameters are equal, as a graph network's are, and matters only for given charges that differ
between them. Two files of one constitution (say, with different charges) need `createSystem(residueTemplates=...)`.

What the format has a tag for is a tag. The rest is a `<Script>`, which OpenMM runs when it builds a system: forces over
several coordinates, learned 1-4 factors, van der Waals forms other than Lennard-Jones. See `espalike.export.script`.
"""

from __future__ import annotations

import hashlib
import itertools
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from espalike.chem.molecule import Molecule
from espalike.export.recipes import BOND_K, ENERGY, LENGTH, Recipe, bonded, custom, recipe
from espalike.export.script import MIXED, Nonbonded, nonbonded, script
from espalike.export.single import ExportError, facts, fourier, select
from espalike.geometry import Angle, Coordinate, Dihedral, Distance
from espalike.system import Bound, MMSystem
from espalike.terms.angle import HarmonicAngle
from espalike.terms.base import PairTerm, Term
from espalike.terms.bond import HarmonicBond
from espalike.terms.torsion import RyckaertBellemans
from espalike.tuples import Kind

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


def to_ffxml(
    system: MMSystem, index: int | None = None, info: Mapping[str, str] | None = None, mixed: str | None = None
) -> str:
    """The XML text of one molecule.

    Args:
        system: parametrized molecules.
        index: which molecule; may be left out if there is one.
        info: provenance to write into the file, e.g. model name and source of the charges.
        mixed: how atoms whose van der Waals form is not Lennard-Jones (with Lorentz–Berthelot mixing) meet atoms of
            other force fields. None: not at all, building such a system is an error. `"lj"`: by Lennard-Jones 12-6
            with their sigma and epsilon, Lorentz–Berthelot mixing. Without effect on Lennard-Jones itself.

    Raises:
        ExportError: when the system is not fit for export, or a term cannot be expressed in this format.
        ValueError: for an unknown answer to `mixed`.
    """
    if mixed not in MIXED:
        raise ValueError(f"mixed={mixed!r}: expected one of {', '.join(map(repr, MIXED))}")
    one = select(system, index)
    molecule, name = one.molecules[0], f"M{fingerprint(one)}"
    types = [f"{name}-{atom}" for atom in atom_names(molecule)]
    pairs = nonbonded(one, mixed)
    root = ET.Element("ForceField")
    _info(root, molecule, name, dict(info or {}) | pairs.facts)
    _template(root, molecule, name, types, pairs)
    forces = _bonded(root, one, types)
    _nonbonded(root, pairs, types)
    if text := script(molecule, types, forces, pairs):
        ET.SubElement(root, "Script").text = text
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _info(root: ET.Element, molecule: Molecule, name: str, info: Mapping[str, str]) -> None:
    node = ET.SubElement(root, "Info")
    for key, text in (facts(molecule, info) | {"Template": name}).items():
        ET.SubElement(node, "Fact", name=key).text = text


def _template(root: ET.Element, molecule: Molecule, name: str, types: list[str], pairs: Nonbonded) -> None:
    from openmm import unit
    from openmm.app.element import Element

    kinds = ET.SubElement(root, "AtomTypes")
    residue = ET.SubElement(ET.SubElement(root, "Residues"), "Residue", name=name)
    names = atom_names(molecule)
    for kind, atom, number in zip(types, names, molecule.numbers.tolist(), strict=True):
        element = Element.getByAtomicNumber(number)
        mass = repr(element.mass.value_in_unit(unit.dalton))
        group = pairs.vdw["class"] if pairs.vdw else kind  # tells scripts which atoms have this van der Waals form
        ET.SubElement(kinds, "Type", {"name": kind, "class": group, "element": element.symbol, "mass": mass})
        ET.SubElement(residue, "Atom", name=atom, type=kind)
    for i, j in molecule.bonds.tolist():
        ET.SubElement(residue, "Bond", atomName1=names[i], atomName2=names[j])


def _bonded(root: ET.Element, one: MMSystem, types: list[str]) -> list[Recipe]:
    """Tags of the bonded terms; what there is no tag for is returned."""
    torsions: list[Bound] = []
    rest: list[Bound] = []
    constrained = {bound.term.kind for bound in one.terms if type(bound.term) in _HARMONIC}
    for bound in one.terms:
        term = bound.term
        if isinstance(term, PairTerm):
            continue
        if (term.kind, term.coordinates) in _TAGS or fourier(bound) is not None:
            _check(bound, one.molecules[0])
        if fourier(bound) is not None:
            torsions.append(bound)
        elif type(term) in _HARMONIC:
            _harmonic(root, bound, types)
        elif type(term) is RyckaertBellemans:
            _rows(ET.SubElement(root, "RBTorsionForce"), "Proper", recipe(bound), types, [f"c{n}" for n in range(6)])
        elif (term.kind, term.coordinates) in _TAGS and custom(bound)["force"] != "CustomCompoundBondForce":
            _custom(root, bound, types)
            if term.kind not in constrained:  # OpenMM would take any one of two rows
                _rest(root, bound, types)
                constrained.add(term.kind)
        else:
            rest.append(bound)
    if torsions:
        _torsions(ET.SubElement(root, "PeriodicTorsionForce", ordering="smirnoff"), torsions, types)
    return [made for _, made in bonded(rest)]


_HARMONIC = {
    HarmonicBond: ("HarmonicBondForce", "Bond", "length", BOND_K, LENGTH),
    HarmonicAngle: ("HarmonicAngleForce", "Angle", "angle", ENERGY, 1.0),
}
"""Tag of the force and of a row, name of the equilibrium value, and factors on k and on it."""
_TAGS: dict[tuple[Kind, tuple[Coordinate, ...]], tuple[str, str, str, str, str, float]] = {
    (Kind.BOND, (Distance(0, 1),)): ("Bond", "PerBondParameter", "HarmonicBondForce", "Bond", "length", LENGTH),
    (Kind.ANGLE, (Angle(0, 1, 2),)): ("Angle", "PerAngleParameter", "HarmonicAngleForce", "Angle", "angle", 1.0),
    (Kind.PROPER, (Dihedral(0, 1, 2, 3),)): ("Proper", "PerTorsionParameter", "", "", "", 1.0),
}
"""Tuples and coordinates that custom tags exist for: tags of a row and of a parameter; then, where it can be
constrained, the harmonic force whose rows OpenMM takes the constraint from, row, attribute and unit."""


def _check(bound: Bound, molecule: Molecule) -> None:
    """OpenMM finds the tuples of tags by bonds, and uses the first row that fits."""
    bonds = {tuple(bond) for bond in molecule.bonds.tolist()}
    seen = set()
    centre = bound.term.kind is Kind.IMPROPER
    for atoms in bound.tuples.idx.tolist():
        links = [(atoms[1], a) for a in (atoms[0], *atoms[2:])] if centre else list(itertools.pairwise(atoms))
        if any((min(link), max(link)) not in bonds for link in links):
            raise ExportError(
                f"{molecule.name}: {bound.term.name} has a row for atoms {tuple(atoms)}, which are not bonded in that "
                "order; format 'ffxml' cannot express that; format 'system' can"
            )
        key = min(tuple(atoms), tuple(atoms[::-1]))
        if key in seen and fourier(bound) is None:  # rows of Fourier series are merged
            raise ExportError(
                f"{molecule.name}: {bound.term.name} lists atoms {key} twice; format 'ffxml' cannot express that"
            )
        seen.add(key)


def _columns(atoms, types: list[str]) -> dict[str, str]:
    return {f"type{n}": types[a] for n, a in enumerate(atoms, 1)}


def _harmonic(root: ET.Element, bound: Bound, types: list[str]) -> None:
    tag, row, zero, unit_k, unit_0 = _HARMONIC[type(bound.term)]
    force = ET.SubElement(root, tag)
    for atoms, (k, q0) in zip(bound.tuples.idx.tolist(), bound.values.tolist(), strict=True):
        ET.SubElement(force, row, {**_columns(atoms, types), zero: repr(q0 * unit_0), "k": repr(k * unit_k)})


def _custom(root: ET.Element, bound: Bound, types: list[str]) -> None:
    made = custom(bound)
    row, parameter, *_ = _TAGS[bound.term.kind, bound.term.coordinates]
    force = ET.SubElement(root, made["force"], energy=made["energy"])
    for name in made["parameters"]:
        ET.SubElement(force, parameter, name=name)
    _rows(force, row, made, types, made["parameters"])


def _rows(force: ET.Element, tag: str, made: Recipe, types: list[str], names: list[str]) -> None:
    for atoms, values in made["rows"]:
        ET.SubElement(force, tag, _columns(atoms, types) | dict(zip(names, map(repr, values), strict=True)))


def _rest(root: ET.Element, bound: Bound, types: list[str]) -> None:
    """Rows without a force constant: `createSystem(constraints=…)` takes lengths and angles from harmonic tags only."""
    _, _, tag, row, name, unit = _TAGS[bound.term.kind, bound.term.coordinates]
    if tag:
        force = ET.SubElement(root, tag)
        for atoms, value in zip(bound.tuples.idx.tolist(), minimum(bound.term, bound.values).tolist(), strict=True):
            ET.SubElement(force, row, {**_columns(atoms, types), name: repr(value * unit), "k": "0.0"})


def minimum(term: Term, values: torch.Tensor) -> torch.Tensor:
    """Bond length [Å] or angle [rad] of least energy for each row of a term of one distance or angle, shape `(T,)`."""
    low, high = (0.5, 4.0) if isinstance(term.coordinates[0], Distance) else (0.0, np.pi)
    columns = values.unbind(-1)
    lower, upper = torch.full_like(columns[0], low), torch.full_like(columns[0], high)
    steps = torch.linspace(0.0, 1.0, 101, dtype=values.dtype).unsqueeze(-1)
    for _ in range(6):  # each finds the best of 101 points and goes on between its neighbours: 50⁻⁶ of the range
        q = lower + steps * (upper - lower)
        best = q.gather(0, term.energy((q,), columns).argmin(0, keepdim=True))[0]
        lower, upper = best - (upper - lower) / 100.0, best + (upper - lower) / 100.0
    return best


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


def _nonbonded(root: ET.Element, pairs: Nonbonded, types: list[str]) -> None:
    if pairs.particles:
        force = ET.SubElement(root, "NonbondedForce", {k: repr(v) for k, v in pairs.scales.items()})
        for kind, values in zip(types, pairs.particles, strict=True):
            columns = zip(("charge", "sigma", "epsilon"), map(repr, values), strict=True)
            ET.SubElement(force, "Atom", {"type": kind, **dict(columns)})
