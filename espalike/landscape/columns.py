"""More columns of the landscape: torsion profiles, functional groups."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from rdkit import Chem

from espalike.chem.molecule import Molecule, to_rdkit
from espalike.data.schema import Record
from espalike.evaluation.metrics import pooled
from espalike.evaluation.table import Scores, entry_sums
from espalike.qm.sampling.torsions import measured
from espalike.topology import enumerate_tuples

GROUPS = {
    "hydrocarbon": "",
    "alcohol, phenol": "[OX2H][#6;!$(C=O)]",
    "ether": "[OX2]([#6;!$(C=[O,S,N])])[#6;!$(C=[O,S,N])]",
    "ketone, aldehyde": "[#6,#1][CX3](=O)[#6,#1]",
    "ester, acid": "[CX3](=O)[OX2]",
    "amide, urea": "[CX3](=O)[NX3]",
    "amine": "[NX3+0;!$(N[C,S,P]=[O,S,N]);!$(N[a])]",
    "aromatic ring": "c1ccccc1",
    "heteroaromatic": "[n,o,s]",
    "nitrile, alkyne": "[CX2]#[CX2,NX1]",
    "nitro, azide, N-oxide": "[$([N+](=O)[O-]),$(N=[N+]=[N-]),$([#7+][O-])]",
    "sulfur": "[#16]",
    "phosphorus": "[#15]",
    "halogen": "[F,Cl,Br,I]",
    "ion": "[+,-;!$([+]~[-]);!$([-]~[+])]",
}
"""Functional groups by SMARTS."""

_GRID, _OFF, _FEWEST = 15, 0.3, 6
"""Spacing of the angles of torsion drives, how far they may be off [degree], and the fewest geometries."""


def by_group(scores: Scores, metric: int) -> dict[str, dict[str, float]]:
    """An error of every method over the entries whose molecule has a functional group, by group and method.

    Args:
        scores: results.
        metric: place of the error in `espalike.evaluation.metrics.METRICS`.
    """
    matched = {record.id: _groups(record.molecule) for record in scores.records}
    result: dict[str, dict[str, float]] = {}
    for group in GROUPS:
        for method in scores.methods:
            entries = [r for r in scores.covered(*scores.methods) if group in matched[r.id]]
            if entries:
                total = np.sum([entry_sums(r, scores.results[method][r.id]) for r in entries], axis=0)
                result.setdefault(group, {})[method] = float(pooled(total)[metric])
    return result


def _groups(molecule: Molecule) -> set[str]:
    mol = to_rdkit(molecule)
    found = {name for name, smarts in GROUPS.items() if smarts and mol.HasSubstructMatch(Chem.MolFromSmarts(smarts))}
    return found or ({"hydrocarbon"} if set(molecule.numbers.tolist()) <= {1, 6} else set())


def profiles(scores: Scores) -> dict[str, dict[str, float]]:
    """Errors of torsion profiles by method: of energies and of the barrier [kcal/mol], of the minimum's place [degree].

    Profiles are entries whose torsion was driven: the one that the entry names, or else the one whose angles are on a
    grid of 15°. Energies are relative to the profile's mean; the barrier is the
    highest energy minus the lowest; the place is where the energy is lowest. Errors are root mean squares of energies,
    and means of absolute errors of barriers and places.
    """
    scans = [(r, atoms) for r in scores.covered(*scores.methods) if (atoms := driven(r))]
    if not scans:
        return {}
    result = {}
    for method in scores.methods:
        squares, barriers, places = [], [], []
        for record, atoms in scans:
            reference, found = np.asarray(record.conformers.energy), scores.results[method][record.id].energy
            squares.append((found - found.mean() - reference + reference.mean()) ** 2)
            barriers.append(abs(np.ptp(found) - np.ptp(reference)))
            angles = [measured(xyz, atoms) for xyz in record.conformers.xyz]
            turn = angles[int(found.argmin())] - angles[int(reference.argmin())]
            places.append(abs((turn + 180.0) % 360.0 - 180.0))
        result[method] = {
            "profiles": len(scans),
            "energy RMSE": float(np.sqrt(np.concatenate(squares).mean())),
            "barrier error": float(np.mean(barriers)),
            "minimum off by": float(np.mean(places)),
        }
    return result


def driven(record: Record) -> list[int] | None:
    """The torsion along which the geometries of an entry are a profile, or None."""
    xyz = record.conformers.xyz
    if record.dihedral is not None:
        return record.dihedral.tolist() if len(xyz) > 2 else None
    if record.kind not in ("", "scan") or len(xyz) < _FEWEST:
        return None
    molecule, found = record.molecule, {}
    tuples = enumerate_tuples(molecule.numbers, molecule.bonds, molecule.orders, molecule.charges)
    for atoms in tuples.propers.tolist():
        places = np.array([measured(points, atoms) for points in xyz]) / _GRID
        off = np.abs(places - np.rint(places)).max() * _GRID
        if off < _OFF and len({int(place) % (360 // _GRID) for place in np.rint(places)}) >= 0.9 * len(xyz):
            found[off] = atoms
    return found[min(found)] if found else None


def rows_of(columns: Mapping[str, Mapping[str, float]]) -> tuple[list[str], list[list[str]]]:
    """A mapping of mappings as a header and rows of text."""
    names = list(next(iter(columns.values())))
    rows = []
    for first, values in columns.items():
        rows.append([first, *(_number(values.get(name, float("nan"))) for name in names)])
    return ["", *names], rows


def _number(value: float) -> str:
    return "–" if not np.isfinite(value) else str(value) if isinstance(value, int) else f"{value:.3g}"
