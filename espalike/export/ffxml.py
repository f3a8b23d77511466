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
from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import torch

from espalike.chem.molecule import Molecule
from espalike.export.border import Border
from espalike.export.engine import Cell, Engine, Place, has_expression
from espalike.export.nonbonded import pair_keys
from espalike.export.openmm import natural_mass
from espalike.export.pairs import MIXED, FilePairs, file_pairs
from espalike.export.parts import BOND_K, ENERGY, LENGTH, ExportError, Part, Single
from espalike.export.recipes import Recipe, bonded, cells
from espalike.export.text import atom_names, element, rows_text, symbols
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
    facts = single.facts | pairs.facts | {"Template": single.name}
    info = [f"<Fact name={quoteattr(key)}>{escape(text)}</Fact>" for key, text in facts.items()]
    tags, recipes = _bonded(single, types)
    text = _script(molecule, types, [*recipes, *pairs.forces], pairs, border)
    script = [f"  <Script>{escape(text)}</Script>\n"] if text else []
    content = [
        element("Info", info),
        *_template(single, types, pairs, border),
        *tags,
        *_nonbonded(pairs, types),
        *script,
    ]
    return {".xml": f"<ForceField>\n{''.join(content)}</ForceField>\n"}


def _lines(row: str, *columns: np.ndarray | Sequence[object]) -> list[str]:
    return rows_text(row, *columns).splitlines()


def _template(single: Single, types: list[str], pairs: FilePairs, border: Border | None) -> list[str]:
    """Types, and the residue. Its atoms are in canonical order, by which OpenMM finds equal templates equal."""
    molecule, names = single.molecule, atom_names(single.molecule)
    masses = molecule.masses(natural_mass)
    groups = [pairs.vdw["class"]] * len(types) if pairs.vdw else types  # says which atoms have this van der Waals form
    order = single.canonical
    types, groups, elements, named = (
        np.array(column, dtype=object)[order] for column in (types, groups, symbols(molecule), names)
    )
    kinds = _lines(
        '<Type name="%s" class="%s" element="%s" mass="%r" />', types, groups, elements, np.array(masses)[order]
    )
    residue = _lines('  <Atom name="%s" type="%s" />', named, types)
    place = np.argsort(order)[molecule.bonds]
    ends = molecule.bonds[np.lexsort(np.sort(place, axis=1).T[::-1])]
    residue += _lines('  <Bond atomName1="%s" atomName2="%s" />', *np.array(names, dtype=object)[ends].T)
    outer = [names[end] for end in border.ends] if border else []
    residue += _lines('  <ExternalBond atomName="%s" />', outer)
    head = f'<Residue name="{single.name}">'
    return [element("AtomTypes", kinds), element("Residues", [head, *residue, "</Residue>"])]


def _bonded(single: Single, types: list[str]) -> tuple[list[str], list[Recipe]]:
    """Tags of the bonded parts; parts without a tag as recipes for the script.

    OpenMM uses the first row that fits, so a bond or an angle has one row: of the first term, if it is one harmonic.
    """
    tags: list[str] = []
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
                tags.append(_harmonic(acting, types))
        for part in mine:
            if isinstance(part.primitive, Fourier) and part.place in (Place.PROPER, Place.IMPROPER):
                _check(part, single.molecule)
                torsions.append(part)
            else:
                rest.append(part)
    if torsions:
        tags.append(element("PeriodicTorsionForce", _torsions(torsions, types), ' ordering="smirnoff"'))
    return tags, [made for _, made in bonded(rest)]


def _check(part: Part, molecule: Molecule) -> None:
    """OpenMM finds the tuples of tags by bonds, and uses the first row that fits."""
    links = (
        ((1, 0), (1, 2), (1, 3)) if part.place == Place.IMPROPER else tuple(itertools.pairwise(range(len(part.idx.T))))
    )
    keys = [pair_keys(part.idx[:, link], molecule.n_atoms) for link in links]
    linked = np.isin(np.stack(keys, axis=1), pair_keys(molecule.bonds, molecule.n_atoms))
    for row in np.flatnonzero(linked.sum(axis=1) < len(links)):
        atoms = part.atoms[row]
        raise ExportError(
            f"{molecule.name}: {part.term.name} has a row for atoms {atoms}, which are not bonded in that "
            "order; format 'ffxml' cannot express that; format 'system' can"
        )
    if isinstance(part.primitive, Fourier):
        return  # rows of Fourier series are merged
    seen = set()
    for atoms in part.atoms:
        key = min(atoms, atoms[::-1])
        if key in seen:
            raise ExportError(
                f"{molecule.name}: {part.term.name} lists atoms {key} twice; format 'ffxml' cannot express that; "
                "format 'system' can"
            )
        seen.add(key)


def _typed(atoms: int) -> str:
    """The attributes of a row that name the types of its atoms."""
    return " ".join(f'type{n}="%s"' for n in range(1, atoms + 1))


def _harmonic(parts: list[Part], types: list[str]) -> str:
    """The rows of one harmonic; of anything else, rows without a force constant at the minimum.

    `createSystem(constraints=…)` takes lengths and angles from these tags.
    """
    tag, row, zero, unit_k, unit_0 = _HARMONIC[parts[0].place]
    harmonic = parts[0].primitive
    if len(parts) == 1 and isinstance(harmonic, Harmonic):
        values = parts[0].columns(harmonic.q0 * unit_0, harmonic.k * unit_k)
    else:
        values = parts[0].columns(minimum(parts) * unit_0, 0.0)
    named = np.array(types, dtype=object)[parts[0].idx].T
    return element(tag, _lines(f'<{row} {_typed(len(named))} {zero}="%r" k="%r" />', *named, *values))


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


def _torsions(parts: list[Part], types: list[str]) -> list[str]:
    """Propers and impropers; rows on the same atoms are merged, since OpenMM uses the first match only."""
    places: dict[tuple[str, tuple[int, ...]], int] = {}
    place, n, phase, k = [], [], [], []
    for part in parts:
        if part.place == Place.IMPROPER:  # centre first; OpenMM adds the three cyclic orders of the others
            keys = [("Improper", (b, a, *rest)) for a, b, *rest in part.atoms]
        else:
            keys = [("Proper", min(atoms, atoms[::-1])) for atoms in part.atoms]
        rows, waves = np.array([places.setdefault(key, len(places)) for key in keys], dtype=np.int64), part.waves
        place.append(rows[waves.row])
        n.append(waves.n)
        phase.append(waves.phase)
        k.append(waves.k * ENERGY)
    where = np.concatenate(place)
    order = np.argsort(where, kind="stable")
    edges = np.searchsorted(where[order], np.arange(len(places) + 1))
    number = np.arange(1, len(order) + 1) - edges[where[order]]  # of a wave in its row
    columns = [number, np.concatenate(n)[order], number, np.concatenate(phase)[order], number, np.concatenate(k)[order]]
    waves_text = _lines('periodicity%s="%s" phase%s="%r" k%s="%r"', *columns)
    atoms = np.array([atoms for _, atoms in places], dtype=np.int64).reshape(-1, 4)
    heads = _lines(f"<%s {_typed(4)}", [tag for tag, _ in places], *np.array(types, dtype=object)[atoms].T)
    rows_of = zip(heads, itertools.pairwise(edges.tolist()), strict=True)
    return [f"{head} {' '.join(waves_text[low:high])} />" for head, (low, high) in rows_of if high > low]


def _nonbonded(pairs: FilePairs, types: list[str]) -> list[str]:
    if not len(pairs.particles):
        return []
    atoms = _lines('<Atom type="%s" charge="%r" sigma="%r" epsilon="%r" />', types, *pairs.particles.T)
    return [element("NonbondedForce", atoms, "".join(f' {name}="{value!r}"' for name, value in pairs.scales.items()))]


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
    return f"({list(atoms)!r}, {list(values)!r})"
