"""An `MMSystem` as GROMACS topology: `.top`, the molecule's `.itp` and a `.gro`.

Forms after the GROMACS 2022 reference manual, section "Interaction function and force fields" and the table of the
topology file (https://manual.gromacs.org/2022/reference-manual). The text is written here and not by ParmEd, whose
writer rounds parameters to a few decimals: every number is written in full.

The `.itp` can be included in another topology: its types belong to this molecule alone, and `[ defaults ]` are those of
the Amber force fields. The combining rule is the topology's: that of the `.top` written here. GROMACS wants all atom
types before any molecule, so the file is included twice: the first time it gives its types, the second its molecule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from espalike.chem.molecule import Molecule
from espalike.export import STEM
from espalike.export.classical import series
from espalike.export.engines import Nonbonded, columns, comment, coordinates, mass, nonbonded, one_line, refusal
from espalike.export.ffxml import atom_names, fingerprint
from espalike.export.single import select
from espalike.system import Bound, MMSystem
from espalike.terms.angle import CosineAngle, HarmonicAngle, LinearMixtureAngle, QuarticAngle, UreyBradley
from espalike.terms.base import PairTerm
from espalike.terms.bond import HarmonicBond, LinearMixtureBond, MorseBond
from espalike.terms.coulomb import Coulomb
from espalike.terms.cross import BondBond
from espalike.terms.torsion import RyckaertBellemans
from espalike.tuples import Kind
from espalike.units import convert

LENGTH = convert(1.0, "angstrom", "nm")
ENERGY = convert(1.0, "kcal/mol", "kJ/mol")
BOND_K = convert(1.0, "kcal/mol/angstrom**2", "kJ/mol/nm**2")
DEGREE = convert(1.0, "radian", "degree")
FUDGE_QQ = Coulomb.usual14
"""1-4 factor of charges in `[ defaults ]`, the Amber force fields': another one is written into each pair."""

Row = tuple[tuple[int, ...], int, tuple[float, ...]]
"""Atoms from 0, GROMACS's function number, parameters in GROMACS's units."""

_FORMS: dict[type, tuple[str, int, Callable[..., list[tuple[float, ...]]]]] = {
    HarmonicBond: ("bonds", 1, lambda k, r0: [(r0 * LENGTH, k * BOND_K)]),
    MorseBond: ("bonds", 3, lambda k, r0, d: [(r0 * LENGTH, d * ENERGY, math.sqrt(0.5 * k / d) / LENGTH)]),
    LinearMixtureBond: (
        "bonds",
        1,
        lambda *ks: [(c * LENGTH, k * BOND_K) for c, k in zip(LinearMixtureBond.centres, ks, strict=True)],
    ),
    HarmonicAngle: ("angles", 1, lambda k, t0: [(t0 * DEGREE, k * ENERGY)]),
    LinearMixtureAngle: (
        "angles",
        1,
        lambda *ks: [(c * DEGREE, k * ENERGY) for c, k in zip(LinearMixtureAngle.centres, ks, strict=True)],
    ),
    CosineAngle: ("angles", 2, lambda k, t0: [(t0 * DEGREE, k * ENERGY)]),
    BondBond: ("angles", 3, lambda k, ra0, rb0: [(ra0 * LENGTH, rb0 * LENGTH, k * BOND_K)]),
    UreyBradley: ("angles", 5, lambda k, r0: [(0.0, 0.0, r0 * LENGTH, k * BOND_K)]),  # and no harmonic angle
    QuarticAngle: (
        "angles",
        6,
        lambda k, t0, c: [(t0 * DEGREE, 0.0, 0.0, *(k * ENERGY * f for f in (0.5, 0.5 * c, 7.0 / 24.0 * c * c)))],
    ),
    RyckaertBellemans: ("dihedrals", 3, lambda *cs: [tuple(c * ENERGY for c in cs)]),
}
"""Section, function number, and the rows of parameters that sum to the term."""


def texts(
    system: MMSystem,
    index: int | None = None,
    info: Mapping[str, str] | None = None,
    xyz: np.ndarray | None = None,
) -> dict[str, str]:
    """The three files of one molecule, ending to text.

    Args:
        system: parametrized molecules.
        index: which molecule; may be left out if there is one.
        info: provenance to write into the files.
        xyz: coordinates [Å] `(A, 3)`; an embedded conformer if left out.

    Raises:
        ExportError: when the system is not fit for export, or a term cannot be expressed in this format.
    """
    one = select(system, index)
    molecule, name = one.molecules[0], f"M{fingerprint(one)}"
    pairs = nonbonded(one, "gromacs")
    sections = _sections(one)
    head = [f"; {line}" for line in comment(molecule, info)]
    xyz = coordinates(molecule, xyz)
    return {
        ".top": _top(head, name, molecule, pairs),
        ".gro": _gro(molecule, xyz),
        ".itp": _itp(head, name, _types(molecule, name, pairs), _molecule(molecule, name, pairs, sections)),
    }


def _sections(one: MMSystem) -> dict[str, list[Row]]:
    """Rows of all bonded terms, by section."""
    sections: dict[str, list[Row]] = {"bonds": [], "angles": [], "dihedrals": []}
    for bound in one.terms:
        if isinstance(bound.term, PairTerm):
            continue
        if type(bound.term) in _FORMS:
            section, function, form = _FORMS[type(bound.term)]
            for atoms, row in zip(bound.tuples.idx.tolist(), bound.values.tolist(), strict=True):
                sections[section] += [(tuple(atoms), function, parameters) for parameters in form(*row)]
        elif (found := _dihedrals(bound)) is not None:
            sections["dihedrals"] += found
        else:
            raise refusal(one.molecules[0], "gromacs", bound.term.name)
    stretched = {tuple(sorted(atoms)) for atoms, _, _ in sections["bonds"]}
    # a bond without energy is still a bond: exclusions follow from it
    sections["bonds"] += [((i, j), 5, ()) for i, j in one.molecules[0].bonds.tolist() if (i, j) not in stretched]
    return sections


def _dihedrals(bound: Bound) -> list[Row] | None:
    """Fourier series as rows of function 9, impropers as function 4 (one form; GROMACS reports them apart)."""
    if (rows := series(bound)) is None:
        return None
    function = 4 if bound.term.kind is Kind.IMPROPER else 9
    return [
        (tuple(atoms[a] for a in dihedral.atoms), function, (phase * DEGREE, k * ENERGY, n))
        for atoms, row in zip(bound.tuples.idx.tolist(), rows, strict=True)
        for dihedral in bound.term.coordinates
        for n, phase, k in row
    ]


def _top(head: list[str], name: str, molecule: Molecule, pairs: Nonbonded) -> str:
    rule = 3 if pairs.rule.mixing == "geometric" else 2
    lines = [*head, "", "[ defaults ]", "; nbfunc  comb-rule  gen-pairs  fudgeLJ  fudgeQQ"]
    lines += [f"  1       {rule}          no         0.5      {FUDGE_QQ!r}", "", "; types, then the molecule"]
    lines += [f'#include "{STEM}.itp"'] * 2 + [""]
    return "\n".join([*lines, "[ system ]", one_line(molecule.name), "", "[ molecules ]", f"{name}  1", ""])


def _itp(head: list[str], name: str, types: list[str], body: list[str]) -> str:
    lines = [*head, "; include it twice: after the force field (atom types), and where molecules are (the molecule)"]
    lines += [f"#ifndef TYPES_{name}", f"#define TYPES_{name}", *types, "", "#else", *body, "", "#endif", ""]
    return "\n".join(lines)


def _types(molecule: Molecule, name: str, pairs: Nonbonded) -> list[str]:
    """One type an atom; pairs of types for a mixing rule that GROMACS lacks."""
    rows = []
    for kind, number, (sigma, epsilon) in zip(_kinds(molecule, name), molecule.numbers, pairs.lj.tolist(), strict=True):
        lj = (repr(sigma * LENGTH), repr(epsilon * ENERGY))
        rows.append((kind, str(number), repr(mass(number)), "0.0", "A", *lj))
    lines = ["", "[ atomtypes ]", "; name  number  mass  charge  ptype  sigma [nm]  epsilon [kJ/mol]", *columns(rows)]
    if pairs.rule.mixing not in ("lorentz-berthelot", "geometric"):
        i, j = np.triu_indices(molecule.n_atoms)
        kinds = _kinds(molecule, name)
        mixed = zip(i.tolist(), j.tolist(), pairs.pairs(np.stack([i, j], axis=1)).tolist(), strict=True)
        explicit = [(kinds[a], kinds[b], "1", repr(s * LENGTH), repr(e * ENERGY)) for a, b, (s, e) in mixed]
        lines += ["", f"; {pairs.rule.mixing} mixing; with other molecules' atoms the topology's rule holds"]
        lines += ["[ nonbond_params ]", *columns(explicit)]
    return lines


def _molecule(molecule: Molecule, name: str, pairs: Nonbonded, sections: dict[str, list[Row]]) -> list[str]:
    lines = ["", "[ moleculetype ]", "; name  nrexcl", f"{name}  3", "", "[ atoms ]"]
    lines += ["; nr  type  resnr  residue  atom  cgnr  charge [e]  mass [u]"]
    rows = []
    named = zip(_kinds(molecule, name), atom_names(molecule), pairs.charge.tolist(), molecule.numbers, strict=True)
    for n, (kind, atom, charge, number) in enumerate(named, 1):
        rows.append((str(n), kind, "1", "LIG", atom, str(n), repr(charge), repr(mass(number))))
    lines += columns(rows)
    for section, found in (*sections.items(), ("pairs", _pairs(pairs))):
        if found:
            lines += ["", f"[ {section} ]"]
            for atoms, function, parameters in found:
                lines.append(" ".join([*(f"{a + 1:4d}" for a in atoms), str(function), *map(repr, parameters)]))
    return lines


def _pairs(pairs: Nonbonded) -> list[Row]:
    """1-4 pairs with their Lennard-Jones written out; with their charges too unless `[ defaults ]` scale them right."""
    if not (pairs.charge.any() or pairs.lj[:, 1].any()):
        return []
    atoms, charge = pairs.graph.pairs[pairs.graph.is14], pairs.charge.tolist()
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


def _kinds(molecule: Molecule, name: str) -> list[str]:
    return [f"{name}-{atom}" for atom in atom_names(molecule)]
