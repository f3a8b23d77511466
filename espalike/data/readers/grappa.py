"""The layout of Grappa's data sets: a folder of `.npz`, one per molecule.

Arrays: `xyz (K, A, 3)` [Å], `energy_qm (K,)` [kcal/mol], `gradient_qm (K, A, 3)` [kcal/mol/Å], which is +dE/dx,
`atomic_numbers (A,)`, `mapped_smiles`, `partial_charges (A,)` [e], `mol_id`. Their names and units are settings, since
no description of the format is published beside the data. `energy_ref` and `gradient_ref` do not stand in for them: a
reference may have the nonbonded part of a classical force field taken off.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from espalike.data.readers.arrays import Layout, LayoutReader
from espalike.data.readers.base import Reader, ReaderError

NAMES = {
    "coords": "xyz",
    "energy": "energy_qm",
    "gradient": "gradient_qm",
    "numbers": "atomic_numbers",
    "smiles": "mapped_smiles",
    "charges": "partial_charges",
    "name": "mol_id",
}
"""Names of arrays; gradient, smiles, charges and name may be missing."""


class GrappaReader(LayoutReader):
    """A folder of archives, or one, each an entry.

    Args:
        path: the folder or file.
        source: name of the data source in tables; None = the folder's or file's name.
        level: level of theory of all entries; the files do not say it.
        keys: names of arrays that differ from `NAMES`; None = not to be read.
        charges: the partial charges become the entry's reference charges.
        units: units that differ from `coords angstrom; energies kcal/mol; forces kcal/mol/angstrom`.

    Raises:
        ReaderError: as `LayoutReader`; for an unknown key.
    """

    names_option = "keys"

    def __init__(
        self,
        path: str | Path,
        source: str | None = None,
        level: str | None = None,
        keys: Mapping[str, str | None] | None = None,
        charges: bool = False,
        units: str | None = None,
    ):
        Reader.__init__(self, path, source)  # a missing file is reported first
        given = {"coords" if key == "xyz" else key: name for key, name in (keys or {}).items()}
        if unknown := set(given) - set(NAMES):
            raise ReaderError(f"{path}: reader.keys names {', '.join(sorted(unknown))}; known: {', '.join(NAMES)}")
        layout = Layout(
            container="npz",
            names={what: name for what, name in {**NAMES, **given}.items() if name},
            optional=("smiles", "gradient"),
            units={"coords": "angstrom", "energies": "kcal/mol", "forces": "kcal/mol/angstrom"},
            fixed=False,
        )
        super().__init__(path, layout, source, level, charges=charges, units=units)
