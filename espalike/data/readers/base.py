"""What a reader is: an outside file as an iterable of records and rejections, its units stated, not guessed."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from espalike import units
from espalike.chem import ChemistryError, connectivity_key, from_smiles
from espalike.chem.molecule import Molecule
from espalike.data.readers.kinds import of_another_program
from espalike.data.schema import Record, RecordError, Rejection, check

_LENGTHS = ("angstrom", "angstroms", "å", "nanometer", "nm", "bohr", "a0")
_ENERGIES = ("kcal/mol", "kj/mol", "hartree", "eh", "ev")
KNOWN_UNITS = {
    "coords": set(_LENGTHS),
    "energies": set(_ENERGIES),
    "forces": {f"{e}/{length}" for e in _ENERGIES for length in _LENGTHS},
    "dipoles": {"e*angstrom", "e*bohr", "debye"},
    "charges": {"e"},
    "interaction": set(_ENERGIES),
    "sapt": set(_ENERGIES),
}
"""Units that are accepted for each quantity."""
INTERNAL_UNITS = {
    "coords": "angstrom", "energies": "kcal/mol", "forces": "kcal/mol/angstrom", "dipoles": "e*angstrom",
    "charges": "e", "interaction": "kcal/mol", "sapt": "kcal/mol",
}  # fmt: skip


class ReaderError(ValueError):
    """A file that cannot be read as a whole."""


def parse_units(text: str) -> dict[str, str]:
    """Units by quantity from `coords Angstrom; energies kcal/mol; ...`; remarks in brackets are dropped."""
    parts = (re.sub(r"\(.*?\)", "", part).split() for part in text.split(";"))
    return {words[0]: "".join(words[1:]) for words in parts if len(words) > 1}


@lru_cache(maxsize=4096)
def _parsed(smiles: str) -> tuple[Molecule, str]:
    molecule = from_smiles(smiles)
    return molecule, connectivity_key(molecule)


def parsed(smiles: str, name: str) -> tuple[Molecule, str]:
    """Molecule of a SMILES and its connectivity key; the same molecule in many entries is parsed once.

    Raises:
        ChemistryError: as `espalike.chem.from_smiles`, naming the entry.
    """
    try:
        molecule, key = _parsed(smiles)
    except ChemistryError:
        from_smiles(smiles, name)
        raise
    return replace(molecule, name=name), key


def finite(name: str, what: str, values: np.ndarray) -> np.ndarray:
    """The values, all of which are numbers. `schema.check` takes energies that are all NaN for a level without.

    Raises:
        RecordError: when one is NaN or infinite.
    """
    bad = np.size(values) - np.isfinite(values).sum()
    if bad:
        what_is_wrong = f"{what} hold NaN or infinite values ({bad} of {np.size(values)})"
        raise RecordError(f"{what} not finite", f"{name}: {what_is_wrong}")
    return values


def some_finite(name: str, what: str, values: np.ndarray) -> np.ndarray:
    """The values, shape `(K, …)`: filters drop conformers whose numbers are not finite, but not all of them.

    Raises:
        RecordError: when no conformer has finite numbers.
    """
    known = np.isfinite(values).reshape(len(values), -1).all(axis=1) if np.size(values) else np.ones(1)
    return values if known.any() else finite(name, what, values)


def first_finite(xyz: np.ndarray) -> int:
    """The first geometry `(K, A, 3)` whose coordinates are finite; 0 where there is none."""
    return int(np.isfinite(xyz).all(axis=(1, 2)).argmax())


def like_forces(names: Iterable[str], leave_out: Iterable[str] = ()) -> list[str]:
    """The names that speak of forces or gradients, and of none of the words to leave out."""
    return [
        name
        for name in names
        if re.search("forc|grad", name, re.IGNORECASE) and not any(word in name.lower() for word in leave_out)
    ]


class Units:
    """The units of a source's quantities (`coords`, `energies`, `forces`, `dipoles`).

    What the file states and what the option states may not contradict each other.

    Args:
        where: what messages call the source.
        stated: units that the file, or its format's definition, gives.
        option: the user's option, `coords angstrom; energies hartree; forces hartree/bohr`, or None.

    Raises:
        ReaderError: for a contradiction or a unit that does not fit its quantity.
    """

    def __init__(self, where: str | Path, stated: Mapping[str, str], option: str | None = None):
        self.where = where
        options = parse_units(option or "")
        for name, unit in [*stated.items(), *options.items()]:
            if name in KNOWN_UNITS and unit.lower() not in KNOWN_UNITS[name]:
                known = ", ".join(sorted(KNOWN_UNITS[name]))
                raise ReaderError(f"{where}: {name} are in unit {unit!r}; known units for them: {known}")
        for name in stated.keys() & options.keys():
            if stated[name].lower() != options[name].lower():
                raise ReaderError(
                    f"{where}: {name} are in {stated[name]!r}, but the option units says {options[name]!r}"
                )
        self.by_name = {**stated, **options}

    def internal(self, entry: str, name: str, values: Any, unit: str = "", quantity: str | None = None) -> np.ndarray:
        """Values in internal units, float64.

        Args:
            entry: what messages call the entry.
            name: data set as `stated` and `option` call it.
            values: the numbers.
            unit: the unit that stands beside these very numbers, where there is one.
            quantity: key of `KNOWN_UNITS`, where `name` is not one itself.

        Raises:
            ReaderError: when nothing gives the unit.
            RecordError: when the unit beside the numbers is unknown or contradicts the file's.
        """
        quantity = quantity or name
        of_file = self.by_name.get(name, self.by_name.get(quantity, ""))
        unit = unit.replace(" ", "").replace("elementary_charge", "e").replace("^", "**")
        if not unit and not of_file:
            raise ReaderError(
                f"{self.where}: nothing says the unit of {name!r}; give it, e.g. 'reader.units=\"coords "
                "angstrom; energies kcal/mol; forces kcal/mol/angstrom\"'"
            )
        if unit and unit.lower() not in KNOWN_UNITS[quantity]:
            raise RecordError("unit unknown", f"{entry}: {name} are in unit {unit!r}, which is not known")
        if unit and of_file and units.factor(unit) != units.factor(of_file):
            raise RecordError(
                "units contradict", f"{entry}: {name} are in {unit!r}, the file as a whole says {of_file!r}"
            )
        factor = units.factor(unit or of_file) / units.factor(INTERNAL_UNITS[quantity])
        array = np.asarray(values, dtype=np.float64)
        return array if factor == 1.0 else array * factor


class Reader(ABC):
    """Iterates over a source's entries, few in memory at a time: a `Record` for each, or a `Rejection` with its reason.

    A subclass yields raw entries cheaply and in a fixed order (`_raw`) and turns one into a record (`_record`). It
    raises faults of an entry as `RecordError` or `ChemistryError`, faults of the whole file as `ReaderError`.

    Args:
        path: file or folder.
        source: name of the data source in tables; None = the file's name.

    Raises:
        ReaderError: when there is nothing at `path`, or the file of another program.
    """

    def __init__(self, path: str | Path, source: str | None = None):
        self.path = Path(path)
        self.source = source or self.path.stem
        if not self.path.exists():
            raise ReaderError(f"{self.path}: no such file")
        if other := of_another_program(self.path):
            raise ReaderError(f"{self.path}: {other}")

    @abstractmethod
    def __len__(self) -> int:
        """Number of entries, for the progress bar and for resuming."""

    @abstractmethod
    def _raw(self) -> Iterator[tuple[str, Any]]:
        """Name and raw content of every entry, in the same order each time, without work that can wait."""

    @abstractmethod
    def _record(self, name: str, raw: Any) -> Record:
        """The record of an entry."""

    @property
    def manifest(self) -> dict:
        """What the source states about itself: `file`, and where given `origin`, `licence`, `description`, `level`."""
        return {"file": self.path.name}

    def files(self) -> list[Path]:
        """Every file that is read, in a fixed order."""
        return sorted(p for p in self.path.rglob("*") if p.is_file()) if self.path.is_dir() else [self.path]

    def fingerprint(self) -> str:
        """SHA-256 over the content of all files; their place and names do not count."""
        digest = hashlib.sha256()
        for path in self.files():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def __iter__(self) -> Iterator[Record | Rejection]:
        return self.entries()

    def entries(self, start: int = 0) -> Iterator[Record | Rejection]:
        """The entries from number `start` on."""
        for name, raw in islice(self._raw(), start, None):
            try:
                record = self._record(name, raw)
                check(record, gaps=True)
                yield record
            except RecordError as error:
                yield Rejection(name, error.reason, str(error))
            except ChemistryError as error:
                yield Rejection(name, "chemistry", f"{name}: {error}")
            except (ReaderError, ImportError):  # of the whole file, or of this installation
                raise
            except Exception as error:  # whatever one entry raises, the others go on
                what = str(error) if isinstance(error, OSError | KeyError) else f"{type(error).__name__}: {error}"
                yield Rejection(name, "unreadable", f"{name}: cannot be read from {self.path.name} ({what})")
