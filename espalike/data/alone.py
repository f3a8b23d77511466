"""Molecules whose geometries are separate entries, so that their energies are never compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from espalike.data.audit import Verdict
from espalike.tables import counted

_MOST_ALONE = 0.1
"""Share of the geometries, from which on an ingest is refused for molecules with several entries of one geometry."""


def judge_entries(tables: Iterable[pa.Table]) -> list[Verdict]:
    """Verdicts on molecules that have several entries of one geometry: their energies are never compared.

    A warning for a few of them; failed where they are `_MOST_ALONE` of the geometries or more.

    Args:
        tables: rows of `schema.SCHEMA`.
    """
    geometries: Counter[str] = Counter()
    alone: dict[tuple, list[str]] = {}
    for table in tables:
        lengths = pc.list_value_length(table.column("energy"))
        columns = [table.column(name).to_pylist() for name in ("source", "level")]
        for source, level, n in zip(*columns, lengths.to_pylist(), strict=True):
            geometries[f"{source}, {level}"] += n
        rows = table.filter(pc.and_(pc.equal(lengths, 1), pc.is_null(table.column("interaction"))))
        known = ~np.isnan(pc.list_flatten(rows.column("energy")).to_numpy())
        for row in rows.select(["source", "level", "kind", "key", "smiles"]).filter(pa.array(known)).to_pylist():
            alone.setdefault((f"{row['source']}, {row['level']}", row["kind"], row["key"]), []).append(row["smiles"])
    of_molecule = Counter(
        (*group, _without_order(text)) for group, texts in alone.items() if len(texts) > 1 for text in texts
    )
    several: dict[str, list[int]] = {}
    for (where, *_), n in of_molecule.items():
        if n > 1:
            several.setdefault(where, []).append(n)
    return [_of_one_geometry(where, several[where], geometries[where]) for where in sorted(several)]


def _of_one_geometry(where: str, several: list[int], total: int) -> Verdict:
    """The verdict on the numbers of entries of one geometry, by molecule; the source has `total` geometries."""
    n = sum(several)
    text = (
        f"{n} entries of one geometry are of {counted(len(several), 'molecule')}. Energies are compared within an "
        "entry: these are not used in training; put the geometries of a molecule into one entry with the atoms in one "
        "order, or into a table or an extended XYZ file, whose readers do that"
    )
    return Verdict("entries", where, "failed" if n >= _MOST_ALONE * total else "warning", text)


def _without_order(smiles: str) -> str:
    """A mapped SMILES without the order of its atoms."""
    from rdkit import Chem

    mol = Chem.MolFromSmiles(smiles, sanitize=False)  # sanitized, it would lose its hydrogens
    if mol is None:
        return smiles
    Chem.SanitizeMol(mol, catchErrors=True)  # only texts are compared
    for atom in mol.GetAtoms():
        atom.SetAtomMapNum(0)
    return Chem.MolToSmiles(mol)
