"""An `MMSystem` as GROMACS topology: `.top`, the molecule's `.itp` and a `.gro`.

Forms after the GROMACS 2022 reference manual, section "Interaction function and force fields" and the table of the
topology file (https://manual.gromacs.org/2022/reference-manual). The text is written here and not by ParmEd, whose
writer rounds parameters to a few decimals; here every number is written in full.

The `.itp` is included once, below the force field and above all molecules, since GROMACS requires all atom types before
any molecule. Its types belong to this molecule alone and are skipped where a file with the same parameters (another
pose) has defined them. Several different molecules are included twice, the first time with `TYPES_ONLY` defined.

The molecule's own energy does not depend on the topology's `[ defaults ]`. 1-4 pairs carry their charges and factors
(function 2); below the `[ defaults ]` of the `.top` written here they are function 1, which other programs read too.
Where the topology combines Lennard-Jones parameters by another rule than the force field, `[ nonbond_params ]` list the
pairs of this molecule's types; with other molecules' types the topology's rule holds. GROMACS's preprocessor cannot
read the rule in `[ defaults ]`, so it is known by the macros of GROMACS's force fields, or a macro that the user
defines. Without one, and for C6 and C12 (rule 1), grompp stops at an `#error` line.

In free-energy calculations GROMACS itself turns the 1-4 pairs of a decoupled molecule into function 2
(`couple-intramol = no`); with `couple-intramol = yes` these pairs keep their charges at every lambda.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from espalike.chem.molecule import Molecule
from espalike.chem.names import Label, made
from espalike.export.engine import Cell, Engine, Place, has_charges
from espalike.export.nonbonded import pair_keys
from espalike.export.pairs import excepted
from espalike.export.parts import BOND_K, DEGREE, ENERGY, LENGTH, ExportError, Single, distinct
from espalike.export.text import (
    NAME,
    STEM,
    aligned,
    labels_of,
    one_line,
    require_room,
    residue_starts,
    rows_text,
    signed,
    symbols,
)
from espalike.terms.base import Term
from espalike.terms.coulomb import Coulomb
from espalike.terms.fourier import Coupling, Fourier
from espalike.terms.primitives import Charges, CosineHarmonic, Harmonic, Morse, Polynomial, Primitive, TwelveSix

FUDGE_QQ = Coulomb.usual14
"""1-4 factor of charges of the Amber force fields."""

_RULE = {"lorentz-berthelot": 2, "geometric": 3}
"""GROMACS's numbers of combining rules of sigma and epsilon."""
_FORCE_FIELDS = {"_FF_AMBER": 2, "_FF_CHARMM": 2, "_FF_OPLS": 3}
"""Macros of GROMACS's force fields, and their combining rules."""
_WIDTH = 5
"""Characters of an atom's name in a `.gro`; grompp compares them with those of the topology."""
_MAX_PAIRED_TYPES = 1000
"""More types than these get no list of their pairs, which would have half a million rows."""
_DIGITS_FIRST = re.compile(r"(\d+)(.+)")
"""Names that begin with digits."""
_OPPOSITE = {"#ifdef": "#ifndef", "#ifndef": "#ifdef"}
_SKIPPED = 5000
"""Lines that grompp may have to skip at once: it calls itself for each, and crashes after some 30,000."""


def _is_cubic(term: Term, primitive: Primitive) -> bool:
    return isinstance(primitive, Polynomial) and primitive.c4 is None


def _quartic_angle(p: Polynomial) -> tuple:
    """θ₀ and the five coefficients of powers of θ − θ₀."""
    return p.q0 * DEGREE, 0.0, 0.0, *(p.powers.get(n, 0.0) * ENERGY for n in (2, 3, 4))


def _cubic_bond(p: Polynomial) -> tuple:
    """b₀, k and k_cub of k (d² + k_cub d³)."""
    cubic = 0.0 if p.c3 is None else p.c3 / p.c2 / LENGTH
    return p.q0 * LENGTH, p.c2 * (ENERGY / LENGTH**2), cubic


def _bond_bond(p: Coupling) -> tuple:
    return p.q0[0] * LENGTH, p.q0[1] * LENGTH, p.k[0] * BOND_K


_FUNCTION: dict[tuple[Place, type[Primitive]], tuple[str, int, Callable[[Any], tuple] | None]] = {
    (Place.BOND, Harmonic): ("bonds", 1, lambda p: (p.q0 * LENGTH, p.k * BOND_K)),
    (Place.BOND, Polynomial): ("bonds", 4, _cubic_bond),
    (Place.BOND, Morse): ("bonds", 3, lambda p: (p.q0 * LENGTH, p.depth * ENERGY, p.a / LENGTH)),
    (Place.ANGLE, Harmonic): ("angles", 1, lambda p: (p.q0 * DEGREE, p.k * ENERGY)),
    (Place.ANGLE, CosineHarmonic): ("angles", 2, lambda p: (p.q0 * DEGREE, p.k * ENERGY)),
    (Place.ANGLE, Polynomial): ("angles", 6, _quartic_angle),
    (Place.BOND_BOND, Coupling): ("angles", 3, _bond_bond),
    (Place.ACROSS, Harmonic): ("angles", 5, lambda p: (0.0, 0.0, p.q0 * LENGTH, p.k * BOND_K)),  # and no harmonic angle
    (Place.PROPER, Fourier): ("dihedrals", 9, None),
    (Place.IMPROPER, Fourier): ("dihedrals", 4, None),  # the form of function 9; GROMACS reports the two apart
}
"""Section, function number, and columns of parameters."""
ENGINE = Engine(
    "gromacs",
    {key: Cell(f"{section} {number}") for key, (section, number, _) in _FUNCTION.items()}
    | {
        (Place.BOND, Polynomial): Cell("bonds 4, up to the cube", _is_cubic),
        (Place.VAN_DER_WAALS, TwelveSix): Cell("atomtypes, pairs; any mixing"),
        (Place.CHARGES, Charges): Cell("atoms, pairs", has_charges),
    },
)


def texts(single: Single) -> dict[str, str]:
    """The three files of one molecule, by ending."""
    head = [f"; {line}" for line in single.comment]
    types = _Types.of(single)
    return {
        ".top": _top(head, single),
        ".gro": _gro(single.molecule, single.coordinates),
        ".itp": _itp(head, single.name, types.lines(), _molecule(single, types)),
    }


@dataclass(frozen=True, eq=False)
class _Types:
    """Atom types: atoms of one element with equal Lennard-Jones parameters share one.

    Attributes:
        single: the molecule.
        first: an atom of each type.
        kind: type of each atom.
    """

    single: Single
    first: np.ndarray
    kind: np.ndarray

    @staticmethod
    def of(single: Single) -> _Types:
        """The types of a molecule, in the order of their first atoms."""
        return _Types(single, *distinct(np.column_stack([single.molecule.numbers, single.nonbonded.wells])))

    @property
    def names(self) -> list[str]:
        """Names, which no other molecule has: an element, then digits; MDAnalysis guesses elements from the letters."""
        labels, number = made(symbols(self.single.molecule)), int(self.single.name[1:], 16)
        return [f"{labels[atom]}-{number}" for atom in self.first]

    def lines(self) -> list[str]:
        """The types, and their pairs for the combining rules that are not the force field's."""
        pairs, numbers = self.single.nonbonded, self.single.molecule.numbers[self.first].tolist()
        rows, masses = [], np.array(self.single.molecule.masses())[self.first].tolist()
        wells = pairs.wells[self.first].tolist()
        for name, number, mass, (sigma, epsilon) in zip(self.names, numbers, masses, wells, strict=True):
            lj = (repr(sigma * LENGTH), repr(epsilon * ENERGY))
            rows.append((name, str(number), repr(mass), "0.0", "A", *lj))
        head = "; name  number  mass  charge  ptype  sigma [nm]  epsilon [kJ/mol]"
        lines = ["", "[ atomtypes ]", head, *aligned(rows)]
        if len(rows) == 1 and pairs.rule in _RULE:  # equal parameters combine to the same by both rules
            return lines
        explicit = ["", "; the force field's own combining rule, among the atoms of this molecule", *self._pairs()]
        if pairs.rule not in _RULE:
            return lines + explicit
        return [*lines, f"#ifndef COMB_RULE_{_RULE[pairs.rule]}", *explicit, "#endif"]

    def _pairs(self) -> list[str]:
        names, size = self.names, len(self.first)
        if size > _MAX_PAIRED_TYPES and self.single.nonbonded.rule in _RULE:
            return [f"#error too many atom types ({size}) for a comb-rule that is not the one of these parameters"]
        i, j = np.triu_indices(size)
        sigma, epsilon = self.single.nonbonded.pairs(np.stack([self.first[i], self.first[j]], axis=1)).T
        named = np.array(names, dtype=object)
        rows = rows_text(" %s  %s  1  %r  %r", named[i], named[j], sigma * LENGTH, epsilon * ENERGY)
        return ["[ nonbond_params ]", rows.rstrip("\n")]


def _sections(single: Single) -> dict[str, str]:
    """Rows of all bonded parts, by section."""
    sections = {"bonds": "", "angles": "", "dihedrals": ""}
    stretched = set()
    for part in single.parts:
        section, function, columns = _FUNCTION[part.place, type(part.primitive)]
        if columns is None:
            atoms, waves = part.dihedrals
            sections[section] += _rows(atoms, function, waves.phase * DEGREE, waves.k * ENERGY, waves.n)
            continue
        values = part.columns(*columns(part.primitive))
        if not np.isfinite(values).all():
            raise ExportError(
                f"{single.molecule.name}: {part.term.name} has a cubic part without a quadratic one; format 'gromacs' "
                "cannot express that; format 'system' can"
            )
        sections[section] += _rows(part.idx, function, *values)
        if section == "bonds":
            stretched |= {tuple(sorted(atoms)) for atoms in part.atoms}
    # a bond without energy is still a bond: exclusions follow from it
    others = [bond for bond in single.molecule.bonds.tolist() if tuple(bond) not in stretched]
    sections["bonds"] += _rows(np.array(others, dtype=np.int64).reshape(-1, 2), 5)
    return sections


def _rows(atoms: np.ndarray, function: int, *columns: np.ndarray | Sequence[str]) -> str:
    """Lines of atoms counted from 1, GROMACS's function number, and parameters in GROMACS's units, or their texts."""
    row = " ".join(["%4s"] * atoms.shape[1] + [str(function)] + ["%s"] * len(columns))
    return rows_text(row, *(atoms + 1).T, *columns)


def _factor(scale: float) -> float:
    """The 1-4 factor of charges in `[ defaults ]` of the `.top`; near Amber's, it is Amber's in full digits."""
    return FUDGE_QQ if math.isclose(scale, FUDGE_QQ, rel_tol=1e-9) else float(scale)


def _macro(factor: float) -> str:
    """The macro of a `.top` whose `[ defaults ]` have this factor: files of several force fields may meet in one."""
    if factor == FUDGE_QQ:
        return "FUDGE_QQ_OF_AMBER"
    return "FUDGE_QQ_" + "".join(c if c.isalnum() else "_" for c in repr(factor))


def _top(head: list[str], single: Single) -> str:
    rule = _RULE.get(single.nonbonded.rule or "", 2)
    lines = [
        *head,
        "",
        "; macros that the .itp looks for; remove them where other [ defaults ] take the place of these",
    ]
    factor = _factor(single.nonbonded.scale_charge)
    lines += [f"#define COMB_RULE_{rule}", f"#define {_macro(factor)}", ""]
    lines += ["[ defaults ]", "; nbfunc  comb-rule  gen-pairs  fudgeLJ  fudgeQQ"]
    lines += [f"  1       {rule}          no         0.5      {factor!r}", "", "; types, then the molecule"]
    lines += [f'#include "{STEM}.itp"', ""]
    return "\n".join([*lines, "[ system ]", one_line(single.molecule.name), "", "[ molecules ]", f"{NAME}  1", ""])


def _itp(head: list[str], name: str, types: list[str], body: list[str]) -> str:
    """The include file: what it needs from the topology, the types unless they are defined, the molecule."""
    lines = [
        *head,
        "; Include it once, below the force field and above all molecules. Several molecules with other parameters:",
        "; #define TYPES_ONLY, include all, #undef TYPES_ONLY, include all again.",
    ]
    for macro, rule in _FORCE_FIELDS.items():
        lines += [f"#ifdef {macro}", f"#define COMB_RULE_{rule}", "#endif"]
    lines += ["#ifndef COMB_RULE_2", "#ifndef COMB_RULE_3"]
    lines += ["#error #define COMB_RULE_2 or COMB_RULE_3 above, as the comb-rule in [ defaults ]; 1 is not possible"]
    lines += ["#endif", "#endif", "#ifdef COMB_RULE_2", "#ifdef COMB_RULE_3"]
    lines += ["#error COMB_RULE_2 and COMB_RULE_3 are both defined; keep the one of the comb-rule in [ defaults ]"]
    lines += ["#endif", "#endif", "", f"#ifndef TYPES_{name}", *types, f"#define TYPES_{name}", "#endif", ""]
    return _in_pieces("\n".join([*lines, "#ifndef TYPES_ONLY", *body, "#endif", ""]))


def _in_pieces(text: str) -> str:
    """A topology in which conditions that hold for many lines end and begin again, with a comment between the two."""
    if text.count("\n") < _SKIPPED:
        return text
    opened, since, lines = list[str](), 0, list[str]()
    for line in text.split("\n"):
        since = since + 1 if opened else 0
        if since > _SKIPPED and not line.startswith("#"):
            lines += [*["#endif"] * len(opened), "; the conditions go on", *opened]
            since = 0
        if line.startswith("#if"):
            opened.append(line)
        elif line == "#else":
            kind, macro = opened[-1].split()
            opened[-1] = f"{_OPPOSITE[kind]} {macro}"
        elif line == "#endif":
            opened.pop()
        lines.append(line)
    return "\n".join(lines)


def _molecule(single: Single, types: _Types) -> list[str]:
    molecule, charges = single.molecule, single.nonbonded.charges.tolist()
    lines = ["", "[ moleculetype ]", "; name  nrexcl", f"{NAME}  3", "", "[ atoms ]"]
    lines += ["; nr  type  resnr  residue  atom  cgnr  charge [e]  mass [u]"]
    rows, names = [], types.names
    named = zip(types.kind.tolist(), _labels(molecule), charges, molecule.masses(), strict=True)
    for n, (kind, label, charge, mass) in enumerate(named, 1):
        home = (f"{label.number}{label.insertion}", label.residue[:5], label.name)
        rows.append((str(n), names[kind], *home, str(n), repr(charge), repr(mass)))
    lines += aligned(rows)
    for section, interactions in _sections(single).items():
        if interactions:
            lines += ["", f"[ {section} ]", interactions.rstrip()]
    return [*lines, *_pairs(single), ""]


def _labels(molecule: Molecule) -> Sequence[Label]:
    """Labels in which the names of hydrogens begin with H and others do not: `constraints = h-bonds` goes by names."""
    labels, elements = labels_of(molecule, _WIDTH), symbols(molecule)
    fits = [(label.name[:1] in "Hh") == (symbol == "H") for label, symbol in zip(labels, elements, strict=True)]
    if all(fits):
        return labels
    result = list[Label]()
    for a, b in itertools.pairwise([*residue_starts(labels), len(labels)]):
        kept = [label.name if fit else "" for label, fit in zip(labels[a:b], fits[a:b], strict=True)]
        for n in range(a, b):
            name = _name_of_hydrogen(labels[n].name)
            if elements[n] == "H" and not fits[n] and name not in kept:
                kept[n - a] = name
        names = made(elements[a:b], kept)
        result += [label._replace(name=name) for label, name in zip(labels[a:b], names, strict=True)]
    return result


def _name_of_hydrogen(name: str) -> str:
    """1HB, as older PDB files have it, becomes HB1, and D3 becomes HD3."""
    moved = _DIGITS_FIRST.sub(r"\2\1", name)
    return (moved if moved[:1] in "Hh" else f"H{moved}")[:_WIDTH]


def _pairs(single: Single) -> list[str]:
    """1-4 pairs with all that they need; also as function 1 where `[ defaults ]` of the `.top` scale charges right."""
    pairs, atoms = single.nonbonded, single.topology.pairs14
    if pairs.has_own:
        return _all_pairs(single)
    if not len(atoms) or not (pairs.charges.any() or pairs.wells[:, 1].any()):
        return []
    sigma, epsilon = pairs.pairs(atoms).T
    lj = [list(map(repr, column.tolist())) for column in (sigma * LENGTH, epsilon * pairs.scale_lj * ENERGY)]
    charges = np.array(list(map(repr, pairs.charges.tolist())), dtype=object)
    full = _rows(atoms, 2, [repr(pairs.scale_charge)] * len(atoms), *charges[atoms].T, *lj).rstrip()
    macro = _macro(_factor(pairs.scale_charge))
    return ["", "[ pairs ]", f"#ifdef {macro}", _rows(atoms, 1, *lj).rstrip(), "#else", full, "#endif"]


def _all_pairs(single: Single) -> list[str]:
    """All pairs of the molecule as function 2, and their exclusions: for wells of their own within a molecule."""
    pairs, n_atoms = single.nonbonded, single.molecule.n_atoms
    every = excepted(single.pair_terms, n_atoms)
    keys = pair_keys(every, n_atoms)
    far = every[~np.isin(keys, pair_keys(single.topology.excluded, n_atoms))]
    is14 = np.isin(pair_keys(far, n_atoms), pair_keys(single.topology.pairs14, n_atoms))
    sigma, epsilon = pairs.pairs(far, within=True).T
    lj = (sigma * LENGTH, epsilon * np.where(is14, pairs.scale_lj, 1.0) * ENERGY)
    rows = _rows(far, 2, np.where(is14, pairs.scale_charge, 1.0), *pairs.charges[far].T, *lj).rstrip()
    starts = np.searchsorted(every[:, 0], np.arange(n_atoms + 1))
    excluded = [
        " ".join(map(str, [atom + 1, *(every[a:b, 1] + 1).tolist()]))
        for atom, (a, b) in enumerate(itertools.pairwise(starts.tolist()))
        if b > a
    ]
    return ["", "[ pairs ]", rows, "", "[ exclusions ]", *excluded] if len(far) else []


def _gro(molecule: Molecule, xyz: np.ndarray) -> str:
    """Coordinates with seven decimals [nm] (readers count them), in a box that holds a cut-off beyond every pair."""
    size = np.ceil(2.0 * (np.linalg.norm(np.ptp(xyz, axis=0)) * LENGTH + 1.0))
    lines = [signed(molecule.name), f"{molecule.n_atoms:5d}"]
    require_room(xyz * LENGTH, 12, 7, f"{molecule.name}: coordinates [nm] of the .gro")
    numbers = [n % 100000 for n in range(1, len(xyz) + 1)]
    named = [
        (label.number if -10000 < label.number < 100000 else label.number % 100000, label.residue[:5], label.name)
        for label in _labels(molecule)
    ]
    row = "%5s%-5s%5s%5s%12.7f%12.7f%12.7f"
    lines.append(rows_text(row, *zip(*named, strict=True), numbers, *(xyz * LENGTH).T).rstrip())
    return "\n".join([*lines, f"{size:10.5f}{size:10.5f}{size:10.5f}", ""])
