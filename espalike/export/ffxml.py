"""An `MMSystem` as an OpenMM `ForceField` XML: a residue template whose atom types belong to one molecule alone.

Format: http://docs.openmm.org/latest/userguide/application/06_creating_ffs.html. OpenMM matches a residue to a
template by its graph of elements and bonds, never by names or stereochemistry. A topology in the molecule's atom order
gets each atom's parameters; in another order, atoms that the graph cannot tell apart may be swapped. That is
harmless where their parameters are equal, as a graph network's are, and matters only for given charges that differ
between them. Files of one constitution with the same parameters, in any order and stereochemistry, share their types
and load together; with different ones (say, other charges) they need `createSystem(residueTemplates=...)`.

Harmonic bonds and angles, torsions, 12-6 wells and charges are tags. Everything else is in a `<Script>`, which OpenMM
runs when it builds a system: custom forms, a second term on the same bonds, learned 1-4 factors, van der Waals forms
other than Lennard-Jones. See `espalike.export.ffxml_script`.
"""

from __future__ import annotations

import inspect
import itertools
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterable

import numpy as np
import torch

from espalike.chem.molecule import Molecule
from espalike.export.border import Border
from espalike.export.engine import Cell, Engine, Place, has_expression
from espalike.export.pairs import MIXED, FilePairs, file_pairs
from espalike.export.parts import BOND_K, ENERGY, LENGTH, ExportError, Part, Single, atom_names
from espalike.export.recipes import Recipe, bonded, cells
from espalike.geometry import Distance
from espalike.terms.fourier import Fourier
from espalike.terms.primitives import Harmonic

_SCRIPTED = Cell("script", has_expression)
ENGINE = Engine(
    "ffxml",
    cells("{} tag", "script") | {(Place.ACROSS, Harmonic): _SCRIPTED},
    _SCRIPTED,
    frozenset({Place.VAN_DER_WAALS}),
)
_HARMONIC = {
    Place.BOND: ("HarmonicBondForce", "Bond", "length", BOND_K, LENGTH),
    Place.ANGLE: ("HarmonicAngleForce", "Angle", "angle", ENERGY, 1.0),
}
"""Tag of the force and of a row, name of the equilibrium value, and factors on k and on it."""


def texts(single: Single, mixed: str | None = None, border: Border | None = None) -> dict[str, str]:
    """The XML of one molecule, by ending.

    Args:
        single: the molecule with its parameters.
        mixed: how atoms whose van der Waals form is not Lennard-Jones (with Lorentz–Berthelot mixing) interact with
            atoms of other force fields. None: not at all; building such a system is an error. `"lj"`: by 12-6
            with their sigma and epsilon, Lorentz–Berthelot mixing. Without effect on Lennard-Jones itself.
        border: of a residue that is bonded to others; see `espalike.export.border`.

    Raises:
        ExportError: when bonded tuples or pairs do not follow from the bonds.
        ValueError: for an unknown answer to `mixed`.
    """
    if mixed not in MIXED:
        raise ValueError(f"mixed={mixed!r}: expected one of {', '.join(map(repr, MIXED))}")
    molecule, pairs = single.molecule, file_pairs(single, mixed)
    types = single.atom_types if border else single.shared_types
    root = ET.Element("ForceField")
    info = ET.SubElement(root, "Info")
    for key, text in (single.facts | pairs.facts | {"Template": single.name}).items():
        ET.SubElement(info, "Fact", name=key).text = text
    _template(root, single, types, pairs, border)
    forces = _bonded(root, single, types)
    _nonbonded(root, pairs, types)
    if text := _script(molecule, types, [*forces, *pairs.forces], pairs, border):
        ET.SubElement(root, "Script").text = text
    ET.indent(root)
    return {".xml": ET.tostring(root, encoding="unicode") + "\n"}


def _template(root: ET.Element, single: Single, types: list[str], pairs: FilePairs, border: Border | None) -> None:
    """Types, and the residue. Its atoms are in canonical order, by which OpenMM finds equal templates equal."""
    from openmm import unit
    from openmm.app.element import Element

    kinds = ET.SubElement(root, "AtomTypes")
    residue = ET.SubElement(ET.SubElement(root, "Residues"), "Residue", name=single.name)
    molecule, names = single.molecule, atom_names(single.molecule)
    masses = molecule.masses(lambda number: Element.getByAtomicNumber(number).mass.value_in_unit(unit.dalton))
    for n in single.canonical.tolist():
        kind, atom, mass = types[n], names[n], masses[n]
        symbol = Element.getByAtomicNumber(int(molecule.numbers[n])).symbol
        group = pairs.vdw["class"] if pairs.vdw else kind  # tells scripts which atoms have this van der Waals form
        ET.SubElement(kinds, "Type", {"name": kind, "class": group, "element": symbol, "mass": repr(mass)})
        ET.SubElement(residue, "Atom", name=atom, type=kind)
    place = np.argsort(single.canonical)
    for i, j in sorted(molecule.bonds.tolist(), key=lambda pair: sorted(place[pair].tolist())):
        ET.SubElement(residue, "Bond", atomName1=names[i], atomName2=names[j])
    for end in border.ends if border else ():
        ET.SubElement(residue, "ExternalBond", atomName=names[end])


def _bonded(root: ET.Element, single: Single, types: list[str]) -> list[Recipe]:
    """Tags of the bonded parts; parts without a tag are returned as recipes for the script.

    OpenMM uses the first row that fits, so a bond or an angle has one row: of the first term, if it is one harmonic.
    """
    torsions: list[Part] = []
    rest: list[Part] = []
    tagged: set[str] = set()
    for number in dict.fromkeys(part.number for part in single.parts):
        mine = [part for part in single.parts if part.number == number]
        for place in (Place.BOND, Place.ANGLE):
            acting = [part for part in mine if part.place == place]
            if acting and place not in tagged:
                tagged.add(place)
                _check(acting[0], single.molecule)
                if len(acting) == 1 and isinstance(acting[0].primitive, Harmonic):
                    mine.remove(acting[0])
                _harmonic(root, acting, types)
        for part in mine:
            if isinstance(part.primitive, Fourier) and part.place in (Place.PROPER, Place.IMPROPER):
                _check(part, single.molecule)
                torsions.append(part)
            else:
                rest.append(part)
    if torsions:
        _torsions(ET.SubElement(root, "PeriodicTorsionForce", ordering="smirnoff"), torsions, types)
    return [made for _, made in bonded(rest)]


def _check(part: Part, molecule: Molecule) -> None:
    """OpenMM finds the tuples of tags by bonds, and uses the first row that fits."""
    bonds = {tuple(bond) for bond in molecule.bonds.tolist()}
    seen = set()
    for atoms in part.atoms:
        centred = [(atoms[1], a) for a in (atoms[0], *atoms[2:])]
        links = centred if part.place == Place.IMPROPER else list(itertools.pairwise(atoms))
        if any((min(link), max(link)) not in bonds for link in links):
            raise ExportError(
                f"{molecule.name}: {part.term.name} has a row for atoms {atoms}, which are not bonded in that "
                "order; format 'ffxml' cannot express that; format 'system' can"
            )
        key = min(atoms, atoms[::-1])
        if key in seen and not isinstance(part.primitive, Fourier):  # rows of Fourier series are merged
            raise ExportError(
                f"{molecule.name}: {part.term.name} lists atoms {key} twice; format 'ffxml' cannot express that; "
                "format 'system' can"
            )
        seen.add(key)


def _columns(atoms, types: list[str]) -> dict[str, str]:
    return {f"type{n}": types[a] for n, a in enumerate(atoms, 1)}


def _harmonic(root: ET.Element, parts: list[Part], types: list[str]) -> None:
    """The rows of one harmonic; of anything else, rows without a force constant at the minimum.

    `createSystem(constraints=…)` takes lengths and angles from these tags.
    """
    tag, row, zero, unit_k, unit_0 = _HARMONIC[parts[0].place]
    force = ET.SubElement(root, tag)
    harmonic = parts[0].primitive
    if len(parts) == 1 and isinstance(harmonic, Harmonic):
        values = parts[0].rows(harmonic.k, harmonic.q0)
    else:
        values = parts[0].rows(0.0, minimum(parts))
    for atoms, (k, q0) in zip(parts[0].atoms, values, strict=True):
        ET.SubElement(force, row, {**_columns(atoms, types), zero: repr(q0 * unit_0), "k": repr(k * unit_k)})


def minimum(parts: list[Part]) -> torch.Tensor:
    """Bond length [Å] or angle [rad] of least energy of parts on the same bonds or angles, shape `(T,)`."""
    size = len(parts[0].atoms)
    low, high = (0.5, 4.0) if isinstance(parts[0].coordinates[0], Distance) else (0.0, np.pi)
    lower, upper = torch.full((size,), low, dtype=torch.float64), torch.full((size,), high, dtype=torch.float64)
    steps = torch.linspace(0.0, 1.0, 101, dtype=torch.float64).unsqueeze(-1)
    for _ in range(6):  # each finds the best of 101 points and continues between its neighbours: 50⁻⁶ of the range
        q = lower + steps * (upper - lower)
        u = torch.stack([part.primitive.energy((q,)) for part in parts]).sum(0)
        best = q.gather(0, u.argmin(0, keepdim=True))[0]
        lower, upper = best - (upper - lower) / 100.0, best + (upper - lower) / 100.0
    return best


def _torsions(force: ET.Element, parts: list[Part], types: list[str]) -> None:
    """Propers and impropers; rows on the same atoms are merged, since OpenMM uses the first match only."""
    merged: dict[tuple[str, tuple[int, ...]], list[tuple[int, float, float]]] = {}
    for part in parts:
        for atoms, row in zip(part.atoms, part.series(), strict=True):
            if part.place == Place.IMPROPER:  # centre first; OpenMM adds the three cyclic orders of the others
                key = ("Improper", (atoms[1], atoms[0], *atoms[2:]))
            else:
                key = ("Proper", min(atoms, atoms[::-1]))
            merged.setdefault(key, []).extend(row)
    for (tag, atoms), series in merged.items():
        if series:
            columns = _columns(atoms, types)
            for n, (period, phase, k) in enumerate(series, 1):
                columns |= {f"periodicity{n}": str(period), f"phase{n}": repr(phase), f"k{n}": repr(k * ENERGY)}
            ET.SubElement(force, tag, columns)


def _nonbonded(root: ET.Element, pairs: FilePairs, types: list[str]) -> None:
    if pairs.particles:
        force = ET.SubElement(root, "NonbondedForce", {k: repr(v) for k, v in pairs.scales.items()})
        for kind, values in zip(types, pairs.particles, strict=True):
            columns = zip(("charge", "sigma", "epsilon"), map(repr, values), strict=True)
            ET.SubElement(force, "Atom", {"type": kind, **dict(columns)})


def _script(molecule: Molecule, types: list[str], forces: list[Recipe], pairs: FilePairs, border: Border | None) -> str:
    """The text of `<Script>`: its fixed part, a table, and the call; empty if nothing is left for it to do."""
    from espalike.export import ffxml_script

    forces = [made for made in forces if made["rows"]]
    if not forces and not pairs.exceptions and not pairs.vdw and not border:
        return ""
    lines = ["espalike_table = {"]
    lines += [f" 'molecule': {molecule.name!r},", f" 'types': {types!r},", " 'forces': [", *_recipes(forces), " ],"]
    if border is None:
        lines += [" 'border': None,"]
    else:
        lines += [f" 'border': {{'outside': {list(border.outside)!r}, 'forces': [", *_recipes(border.forces), " ]},"]
    lines += [" 'exceptions': [", *(f"  {_row(row)}," for row in pairs.exceptions), " ],"]
    if pairs.vdw is None:
        lines += [" 'vdw': None,"]
    else:
        lines += [" 'vdw': {", *(f"  {key!r}: {item!r}," for key, item in pairs.vdw.items() if key != "values")]
        lines += ["  'values': [", *(f"   {row!r}," for row in pairs.vdw["values"]), "  ],", " },"]
    lines += ["}", "espalike_apply(sys, data, self, espalike_table)"]
    return "\n".join(["", inspect.getsource(ffxml_script).rstrip(), "", "", *lines, ""])


def _recipes(forces: Iterable[Recipe]) -> list[str]:
    lines = []
    for made in forces:
        lines += ["  {", *(f"   {key!r}: {made[key]!r}," for key in made if key != "rows"), "   'rows': ["]
        lines += [*(f"    {_row(row)}," for row in made["rows"]), "   ],", "  },"]
    return lines


def _row(row: tuple[list[int], list[float]]) -> str:
    atoms, values = row
    return f"({json.dumps(list(atoms))}, {list(values)!r})"
