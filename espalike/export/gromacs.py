"""An `MMSystem` as GROMACS topology: `.top`, the molecule's `.itp` and a `.gro`.

Forms after the GROMACS 2022 reference manual, section "Interaction function and force fields" and the table of the
topology file (https://manual.gromacs.org/2022/reference-manual). The text is written here and not by ParmEd, whose
writer rounds parameters to a few decimals; here every number is written in full.

The `.itp` can be included in another topology: its types belong to this molecule alone, and `[ defaults ]` are those of
the Amber force fields. The combining rule is the topology's: that of the `.top` written here. GROMACS requires all atom
types before any molecule, so the file is included twice: the first time for its types, the second for its molecule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from espalike.chem.molecule import Molecule
from espalike.export.engine import Cell, Engine, Place, has_charges
from espalike.export.parts import (
    BOND_K,
    DEGREE,
    ENERGY,
    LENGTH,
    STEM,
    ExportError,
    Part,
    Single,
    aligned,
    atom_names,
    mass,
    one_line,
)
from espalike.terms.base import Term
from espalike.terms.coulomb import Coulomb
from espalike.terms.fourier import Coupling, Fourier
from espalike.terms.primitives import Charges, CosineHarmonic, Harmonic, Morse, Polynomial, Primitive, TwelveSix

FUDGE_QQ = Coulomb.usual14
"""1-4 factor of charges in `[ defaults ]`, the Amber force fields': another one is written into each pair."""

Row = tuple[tuple[int, ...], int, tuple[float, ...]]
"""Atoms from 0, GROMACS's function number, parameters in GROMACS's units."""


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
    sections = _sections(single)
    if rows := _pairs(single):
        sections["pairs"] = rows
    head = [f"; {line}" for line in single.comment]
    return {
        ".top": _top(head, single),
        ".gro": _gro(single.molecule, single.coordinates),
        ".itp": _itp(head, single.name, _types(single), _molecule(single, sections)),
    }


def _sections(single: Single) -> dict[str, list[Row]]:
    """Rows of all bonded parts, by section."""
    sections: dict[str, list[Row]] = {"bonds": [], "angles": [], "dihedrals": []}
    for part in single.parts:
        section, function, columns = _FUNCTION[part.place, type(part.primitive)]
        if columns is None:
            sections[section] += _dihedrals(part, function)
            continue
        rows = part.rows(*columns(part.primitive))
        if not np.isfinite(rows).all():
            raise ExportError(
                f"{single.molecule.name}: {part.term.name} has a cubic part without a quadratic one; format 'gromacs' "
                "cannot express that; format 'system' can"
            )
        sections[section] += [(atoms, function, row) for atoms, row in zip(part.atoms, rows, strict=True)]
    stretched = {tuple(sorted(atoms)) for atoms, _, _ in sections["bonds"]}
    # a bond without energy is still a bond: exclusions follow from it
    sections["bonds"] += [((i, j), 5, ()) for i, j in single.molecule.bonds.tolist() if (i, j) not in stretched]
    return sections


def _dihedrals(part: Part, function: int) -> list[Row]:
    """One row for each wave of each dihedral."""
    return [
        (tuple(atoms[a] for a in dihedral.atoms), function, (phase * DEGREE, k * ENERGY, n))
        for atoms, row in zip(part.atoms, part.series(), strict=True)
        for dihedral in part.coordinates
        for n, phase, k in row
    ]


def _top(head: list[str], single: Single) -> str:
    rule = 3 if single.nonbonded.rule == "geometric" else 2
    lines = [*head, "", "[ defaults ]", "; nbfunc  comb-rule  gen-pairs  fudgeLJ  fudgeQQ"]
    lines += [f"  1       {rule}          no         0.5      {FUDGE_QQ!r}", "", "; types, then the molecule"]
    lines += [f'#include "{STEM}.itp"'] * 2 + [""]
    return "\n".join(
        [*lines, "[ system ]", one_line(single.molecule.name), "", "[ molecules ]", f"{single.name}  1", ""]
    )


def _itp(head: list[str], name: str, types: list[str], body: list[str]) -> str:
    lines = [*head, "; include it twice: after the force field (atom types), and where molecules are (the molecule)"]
    lines += [f"#ifndef TYPES_{name}", f"#define TYPES_{name}", *types, "", "#else", *body, "", "#endif", ""]
    return "\n".join(lines)


def _types(single: Single) -> list[str]:
    """One type per atom; pairs of types for a mixing rule that GROMACS lacks."""
    types, numbers, pairs = single.atom_types, single.molecule.numbers, single.nonbonded
    rows = []
    for kind, number, (sigma, epsilon) in zip(types, numbers, pairs.wells.tolist(), strict=True):
        lj = (repr(sigma * LENGTH), repr(epsilon * ENERGY))
        rows.append((kind, str(number), repr(mass(number)), "0.0", "A", *lj))
    lines = ["", "[ atomtypes ]", "; name  number  mass  charge  ptype  sigma [nm]  epsilon [kJ/mol]", *aligned(rows)]
    if pairs.rule not in ("lorentz-berthelot", "geometric"):
        i, j = np.triu_indices(len(types))
        mixed = zip(i.tolist(), j.tolist(), pairs.pairs(np.stack([i, j], axis=1)).tolist(), strict=True)
        explicit = [(types[a], types[b], "1", repr(s * LENGTH), repr(e * ENERGY)) for a, b, (s, e) in mixed]
        lines += ["", f"; {pairs.rule or 'another'} mixing; with other molecules' atoms the topology's rule holds"]
        lines += ["[ nonbond_params ]", *aligned(explicit)]
    return lines


def _molecule(single: Single, sections: dict[str, list[Row]]) -> list[str]:
    molecule, charges = single.molecule, single.nonbonded.charges.tolist()
    lines = ["", "[ moleculetype ]", "; name  nrexcl", f"{single.name}  3", "", "[ atoms ]"]
    lines += ["; nr  type  resnr  residue  atom  cgnr  charge [e]  mass [u]"]
    rows = []
    named = zip(single.atom_types, atom_names(molecule), charges, molecule.numbers, strict=True)
    for n, (kind, atom, charge, number) in enumerate(named, 1):
        rows.append((str(n), kind, "1", "LIG", atom, str(n), repr(charge), repr(mass(number))))
    lines += aligned(rows)
    for section, interactions in sections.items():
        if interactions:
            lines += ["", f"[ {section} ]"]
            for atoms, function, parameters in interactions:
                lines.append(" ".join([*(f"{a + 1:4d}" for a in atoms), str(function), *map(repr, parameters)]))
    return lines


def _pairs(single: Single) -> list[Row]:
    """1-4 pairs with their Lennard-Jones written out; with their charges too unless `[ defaults ]` scale them right."""
    pairs, graph = single.nonbonded, single.topology
    if not (pairs.charges.any() or pairs.wells[:, 1].any()):
        return []
    atoms, charge = graph.pairs[graph.is14], pairs.charges.tolist()
    usual = math.isclose(pairs.scale_charge, FUDGE_QQ, rel_tol=1e-9)
    rows: list[Row] = []
    for (i, j), (sigma, epsilon) in zip(atoms.tolist(), pairs.pairs(atoms).tolist(), strict=True):
        lj = (sigma * LENGTH, epsilon * pairs.scale_lj * ENERGY)
        rows.append(((i, j), 1, lj) if usual else ((i, j), 2, (pairs.scale_charge, charge[i], charge[j], *lj)))
    return rows


def _gro(molecule: Molecule, xyz: np.ndarray) -> str:
    """Coordinates with seven decimals [nm] (readers count them), in a box that holds a cut-off beyond every pair."""
    size = np.ceil(2.0 * (np.linalg.norm(np.ptp(xyz, axis=0)) * LENGTH + 1.0))
    lines = [one_line(molecule.name), f"{molecule.n_atoms:5d}"]
    for n, (atom, point) in enumerate(zip(atom_names(molecule), (xyz * LENGTH).tolist(), strict=True), 1):
        lines.append(f"{1:5d}{'LIG':<5s}{atom:>5s}{n % 100000:5d}" + "".join(f"{x:12.7f}" for x in point))
    return "\n".join([*lines, f"{size:10.5f}{size:10.5f}{size:10.5f}", ""])
