"""An `MMSystem` as SMIRNOFF XML: one fully tagged SMIRKS per parameter, which describes the whole molecule.

Format: https://openforcefield.github.io/standards/standards/smirnoff/. The file matches no other molecule, and may be
loaded after another force field, e.g. `ForceField("openff-2.2.1.offxml", "ligand.offxml")`: it takes precedence for its
molecule, since it lists every bond, angle, torsion and trigonal centre, with k = 0 without a term.

SMIRNOFF distinguishes atoms by the graph alone. Atoms that the graph cannot distinguish get one parameter, which is
what a graph network gives them. Given charges may differ between them; then the format cannot express them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from espalike.chem.complexes import is_complex
from espalike.export.engine import Cell, Engine, Place, has_charges, rule_of, shares_wells
from espalike.export.parts import DEGREE, ExportError, Series, Single
from espalike.export.smirks import WholeMolecule, elements
from espalike.export.text import element
from espalike.terms.base import Term
from espalike.terms.fourier import Fourier
from espalike.terms.primitives import Charges, Harmonic, Primitive, TwelveSix
from espalike.topology import Topology
from espalike.tuples import Kind

LENGTH, CHARGE, ENERGY = " * angstrom ** 1", " * elementary_charge ** 1", " * kilocalorie_per_mole ** 1"
TOLERANCE = 1e-4
"""Largest difference of parameters of equivalent atoms by rounding, relative or [kcal/mol, e, Å, rad]."""

LARGEST = 500
"""Number of atoms above which a file would take minutes to write and to read."""
_BOND_ORDERS = {"fractional_bondorder_method": "AM1-Wiberg", "fractional_bondorder_interpolation": "linear"}
_FOURIER = {"potential": "k*(1+cos(periodicity*theta-phase))", "default_idivf": "auto"}
_SCALES = {"scale12": "0.0", "scale13": "0.0", "scale15": "1.0", "cutoff": f"9.0{LENGTH}"}
_VDW = {
    "version": "0.4",
    "potential": "Lennard-Jones-12-6",
    "combining_rules": "Lorentz-Berthelot",
    "switch_width": f"1.0{LENGTH}",
    "periodic_method": "cutoff",
    "nonperiodic_method": "no-cutoff",
}
_ELECTROSTATICS = {
    "version": "0.4",
    "switch_width": f"0.0{LENGTH}",
    "periodic_potential": "Ewald3D-ConductingBoundary",
    "nonperiodic_potential": "Coulomb",
    "exception_potential": "Coulomb",
}
"""Versions and attributes are those of OpenFF's files: the toolkit merges sections only if they agree."""
_FIVE_SIXTHS = "0.8333333333"
"""1/1.2 as OpenFF's files write it; `Interchange.combine` refuses another number of digits."""

_Atoms = tuple[int, ...]
_Values = Sequence[float]


def _is_lorentz_berthelot(term: Term, primitive: Primitive) -> bool:
    return rule_of(term) == "lorentz-berthelot" and shares_wells(term, primitive)


ENGINE = Engine(
    "offxml",
    {
        (Place.BOND, Harmonic): Cell("Bonds, one per bond"),
        (Place.ANGLE, Harmonic): Cell("Angles, one per angle"),
        (Place.PROPER, Fourier): Cell("ProperTorsions"),
        (Place.IMPROPER, Fourier): Cell("ImproperTorsions"),
        (Place.VAN_DER_WAALS, TwelveSix): Cell("vdW, Lorentz–Berthelot, one set for all pairs", _is_lorentz_berthelot),
        (Place.CHARGES, Charges): Cell("LibraryCharges", has_charges),
    },
    once=frozenset({Place.BOND, Place.ANGLE, Place.VAN_DER_WAALS, Place.CHARGES}),
)


def texts(single: Single) -> dict[str, str]:
    """The file of one molecule, by ending; coordinates are not used.

    Raises:
        ExportError: for a large molecule, a complex, and when parameters differ between atoms that a SMIRKS cannot tell
            apart.
    """
    if is_complex(single.molecule):
        raise ExportError(
            f"{single.molecule.name}: several molecules in one graph; format 'offxml' describes one molecule: write a "
            "file of each, which go into one ForceField; formats 'system' and 'ffxml' take them together"
        )
    if single.molecule.n_atoms > LARGEST:
        raise ExportError(
            f"{single.molecule.name}: {single.molecule.n_atoms} atoms; format 'offxml' describes the whole molecule "
            f"once per parameter, so it takes at most {LARGEST} atoms; formats 'system' and 'ffxml' take any number"
        )
    graph, patterns = single.topology, WholeMolecule(single.molecule)
    bonds = _harmonic(single, patterns, Place.BOND, graph.bonds.tolist())
    angles = _harmonic(single, patterns, Place.ANGLE, graph.angles.tolist())
    propers = _torsions(single, patterns, Place.PROPER, _paths_of_four(graph))
    impropers = _torsions(single, patterns, Place.IMPROPER, graph.impropers.tolist())
    remarks = [*single.xml_comment, "Load it after other force fields: OpenFF takes the last pattern that matches."]
    content = [
        '<?xml version="1.0" encoding="utf-8"?>\n<SMIRNOFF version="0.3" aromaticity_model="OEAroModel_MDL">\n  <!--\n',
        *(f"    {line}\n" for line in remarks),
        "  -->\n",
        _section("Bonds", bonds, {"version": "0.4", "potential": "harmonic", **_BOND_ORDERS}),
        _section("Angles", angles, {"version": "0.3", "potential": "harmonic"}),
        _section("ProperTorsions", propers, {"version": "0.4", **_FOURIER, **_BOND_ORDERS}),
        _section("ImproperTorsions", impropers, {"version": "0.3", **_FOURIER}),
        *_nonbonded(single, patterns),
        "</SMIRNOFF>\n",
    ]
    return {".offxml": "".join(content)}


def _section(tag: str, rows: list[str], attributes: Mapping[str, str]) -> str:
    """An element of the file; neither its attributes nor those of its rows hold a character that XML reserves."""
    return element(tag, rows, "".join(f' {name}="{value}"' for name, value in attributes.items()))


def _key(kind: Kind, atoms: Iterable[int]) -> _Atoms:
    """One name for each physical tuple."""
    atoms = tuple(atoms)
    if kind is Kind.IMPROPER:
        a, b, c = sorted((atoms[0], atoms[2], atoms[3]))
        return (a, atoms[1], b, c)
    return min(atoms, atoms[::-1])


def _orbits(patterns: WholeMolecule, kind: Kind, what: str, values: dict[_Atoms, _Values]):
    """Tuples grouped by the SMIRKS that matches them: `(SMIRKS, tuples of the group, their mean value)`.

    Raises:
        ExportError: where values within a group differ.
    """
    molecule, done = patterns.molecule, set()
    for atoms, expected in values.items():
        if atoms in done:
            continue
        members = sorted({_key(kind, image) for image in patterns.images(atoms)})
        if len(members) == 1:
            yield patterns.smirks(atoms), members, expected
            continue
        rows = np.array([values[member] for member in members])
        differing = np.flatnonzero((np.abs(rows - expected) > TOLERANCE * (1.0 + np.abs(expected))).any(axis=1))
        if len(differing):
            other = members[differing[0]]
            raise ExportError(
                f"{molecule.name}: {what} of {elements(molecule, atoms)} and {elements(molecule, other)} differ, "
                "but the graph cannot tell them apart, so format 'offxml' cannot either; give such atoms equal "
                "values (charges: their mean), or use format 'system'"
            )
        done.update(members)
        yield patterns.smirks(atoms), members, rows.mean(axis=0).tolist()


def _rows(
    section: str,
    tag: str,
    patterns: WholeMolecule,
    kind: Kind,
    values: dict[_Atoms, _Values],
    columns: Callable[[_Atoms, _Values], str],
) -> list[str]:
    """One row for each group of equivalent tuples; `columns` writes a group's first tuple and mean value."""
    return [
        f'<{tag} smirks="{smirks}" id="{tag[0].lower()}{n}" {columns(members[0], mean)} />'
        for n, (smirks, members, mean) in enumerate(_orbits(patterns, kind, section, values), 1)
    ]


def _harmonic(single: Single, patterns: WholeMolecule, place: Place, tuples) -> list[str]:
    """Bonds or angles ½ k (q − q₀)²."""
    kind = Kind.BOND if place == Place.BOND else Kind.ANGLE
    values: dict[_Atoms, _Values] = {_key(kind, atoms): (0.0, 1.0) for atoms in tuples}  # k = 0 without a term
    seen = set()
    for part in single.parts:
        if part.place == place and isinstance(part.primitive, Harmonic):
            for atoms, row in zip(part.atoms, part.rows(part.primitive.k, part.primitive.q0), strict=True):
                key = _key(kind, atoms)
                if key in seen:  # the last match alone would count
                    raise ExportError(
                        f"{patterns.molecule.name}: {part.term.name} lists {elements(patterns.molecule, key)} twice; "
                        "format 'offxml' cannot express that; format 'system' can"
                    )
                seen.add(key)
                values[key] = row
    if kind is Kind.BOND:
        return _rows(
            "Bonds", "Bond", patterns, kind, values,
            lambda _, v: f'length="{v[1]!r}{LENGTH}" k="{v[0]!r}{ENERGY} * angstrom ** -2"',
        )  # fmt: skip
    return _rows(
        "Angles", "Angle", patterns, kind, values,
        lambda _, v: f'angle="{_degrees(v[1])}" k="{v[0]!r}{ENERGY} * radian ** -2"',
    )  # fmt: skip


def _degrees(angle: float) -> str:
    return f"{angle * DEGREE!r} * degree ** 1"


def _torsions(single: Single, patterns: WholeMolecule, place: Place, tuples) -> list[str]:
    """Fourier series; rows on the same atoms are added up, since SMIRNOFF uses the last match only.

    The toolkit requires a row for each proper torsion, also about linear centres, which have no term.
    """
    kind = Kind.PROPER if place == Place.PROPER else Kind.IMPROPER
    rows: dict[_Atoms, Series] = {_key(kind, atoms): [] for atoms in tuples}
    for part in single.parts:
        if part.place == place:
            for atoms, series in zip(part.atoms, part.series, strict=True):
                rows.setdefault(_key(kind, atoms), []).extend(series)
    periods = max((n for series in rows.values() for n, _, _ in series), default=1)
    values = {atoms: _coefficients(series, periods) for atoms, series in rows.items()}
    # An improper is three dihedrals, and SMIRNOFF divides its k by three (idivf "auto")
    factor, divisor = (3.0, "") if kind is Kind.IMPROPER else (1.0, ' idivf{}="1.0"')

    def columns(atoms: _Atoms, mean: _Values) -> str:
        return " ".join(
            f'periodicity{m}="{n}" phase{m}="{_degrees(phase)}" k{m}="{k * factor!r}{ENERGY}"{divisor.format(m)}'
            for m, (n, phase, k) in enumerate(rows[atoms] or [(1, 0.0, 0.0)], 1)
        )

    tag = "Improper" if kind is Kind.IMPROPER else "Proper"
    return _rows(f"{tag}Torsions", tag, patterns, kind, values, columns)


def _coefficients(series: Series, periods: int) -> _Values:
    """Constant, cosine and sine coefficients of a series, periodicities 1 to `periods`."""
    cosine, sine = [0.0] * (periods + 1), [0.0] * (periods + 1)
    for n, phase, k in series:
        cosine[0] += k
        cosine[n] += k * math.cos(phase)
        sine[n] += k * math.sin(phase)
    return [*cosine, *sine[1:]]


def _paths_of_four(graph: Topology) -> list[_Atoms]:
    """Every proper torsion of the graph, those about linear centres included."""
    near: dict[int, list[int]] = {a: [] for a in range(graph.n_atoms)}
    for i, j in graph.bonds.tolist():
        near[i].append(j)
        near[j].append(i)
    paths = [(i, j, k, m) for j, k in graph.bonds.tolist() for i in near[j] for m in near[k]]
    return [path for path in paths if len(set(path)) == 4]


def _nonbonded(single: Single, patterns: WholeMolecule) -> list[str]:
    """Wells, the factor on charges of 1-4 pairs, and charges."""
    pairs = single.nonbonded
    charges, wells = pairs.charges, pairs.wells
    atoms = _rows(
        "vdW", "Atom", patterns, Kind.ATOM, {(a,): well for a, well in enumerate(wells.tolist())},
        lambda _, v: f'sigma="{v[0]!r}{LENGTH}" epsilon="{v[1]!r}{ENERGY}"',
    )  # fmt: skip
    library = _rows(
        "LibraryCharges", "LibraryCharge", patterns, Kind.ATOM, {(a,): [q] for a, q in enumerate(charges.tolist())},
        lambda _, v: f'charge1="{v[0]!r}{CHARGE}"',
    )  # fmt: skip
    scale = _FIVE_SIXTHS if math.isclose(pairs.scale_charge, 5.0 / 6.0, rel_tol=1e-6) else repr(pairs.scale_charge)
    return [
        _section("vdW", atoms, {**_VDW, **_SCALES, "scale14": repr(pairs.scale_lj)}),
        _section("Electrostatics", [], {**_ELECTROSTATICS, **_SCALES, "scale14": scale}),
        _section("LibraryCharges", library, {"version": "0.3"}),
    ]
