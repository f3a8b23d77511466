"""Reader of extended XYZ files, through ASE.

The comment line holds `key=value` pairs and says in `Properties=` what the columns are. ASE's convention is Å, eV, eV/Å
and e·Å; files of other units say nothing of it, so the option `units` must. A frame's molecule is that of the option
`smiles`, else of the frame's key `mapped_smiles` or `smiles`, else perceived from its distances.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Hashable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from espalike.chem.molecule import Molecule
from espalike.data.readers.base import ReaderError, Units, like_forces, parse_units
from espalike.data.readers.frames import Frame, FrameReader, Geometry, OptionError
from espalike.data.readers.monomers import check_charges, complex_of
from espalike.data.readers.structure import SmilesOption, connectivity, molecule_of
from espalike.data.schema import RecordError

CONVENTION = {"coords": "angstrom", "energies": "ev", "forces": "ev/angstrom", "dipoles": "e*angstrom"}
"""Units of ASE."""
_SMILES_KEYS = ("mapped_smiles", "smiles")


class ExtxyzReader(FrameReader):
    """Frames of the same molecule make one record.

    The same molecule: the same name, SMILES, charge and elements in order; without a SMILES the same bonds, too.

    Args:
        path: the file.
        source: name of the data source in tables; None = the file's name.
        level: level of theory of all entries.
        smiles: of the one molecule in the file, or a CSV file with columns `name` and `smiles`; mapped SMILES give
            the atom order, others are laid on the bonds that the distances show.
        name: key of a molecule's name in the comment line.
        charge: key of the total charge there, or the charge of all molecules as a number. It must be that of the
            SMILES; where bonds are perceived, it is needed for ions.
        energy: key of the energies in the comment line; None = there are none.
        forces: column of the forces, −dE/dx; None = they are not read.
        gradient: column of the gradient, +dE/dx, in place of forces.
        dipole: key of the dipole moment in the comment line.
        interaction: key of the interaction energy in the comment line; then each frame is a complex of rigid molecules,
            its SMILES has dots between them, `charge` may give one number per molecule, and no energy is read.
        sapt: key of its four components (electrostatics, exchange, induction, dispersion); None = there are none.
        scaling: key of the distance of a complex relative to equilibrium.
        group: key of its kind of interaction.
        units: `energies hartree; forces hartree/bohr`, for files that are not in ASE's units. Interaction energies have
            no convention: `interaction kcal/mol; sapt kcal/mol`.

    Raises:
        ReaderError: when the file is missing or no extended XYZ, a unit does not fit, or ASE is not installed.
    """

    def __init__(
        self,
        path: str | Path,
        source: str | None = None,
        level: str | None = None,
        smiles: str | Mapping[str, str] | None = None,
        name: str = "name",
        charge: str | int = "charge",
        energy: str | None = "energy",
        forces: str | None = "forces",
        gradient: str | None = None,
        dipole: str = "dipole",
        interaction: str | None = None,
        sapt: str | None = None,
        scaling: str = "scaling",
        group: str = "group",
        units: str | None = None,
    ):
        super().__init__(path, source, level)
        if find_spec("ase") is None:
            raise ReaderError("extended XYZ is read by ASE; install it with: pip install 'espalike[qm]'")
        self.smiles = SmilesOption(smiles)
        self.name, self.charge = name, charge
        self.energy, self.dipole = None if interaction else energy, dipole
        self.forces, self.gradient = None if gradient else forces, gradient
        self.interaction, self.sapt, self.scaling, self.group = interaction, sapt, scaling, group
        given = parse_units(units or "")
        self._units = Units(self.path, {k: unit for k, unit in CONVENTION.items() if k not in given}, units)

    def _frames(self, file: BinaryIO) -> Iterator[Frame]:
        while line := file.readline():
            start = file.tell() - len(line)
            if not line.strip():
                continue
            n = int(line) if line.strip().isdigit() else 0
            if not n:
                line_start = line[:40].decode(errors="replace").strip()
                fault = RecordError(
                    "not this format",
                    f"expected the number of atoms of a frame, found {line_start!r}; nothing after it is read",
                )
                yield Frame(start, file.seek(0, io.SEEK_END), "", fault)
                return
            lines = [line, *itertools.islice(file, n + 1)]
            text = b"".join(lines).decode("utf-8", errors="replace")
            cut = len(lines) < n + 2 or not lines[-1].endswith(b"\n")
            fault = RecordError(
                "cut short", f"{self.path.name}, byte {start}: the file ends within a frame of {n} atoms; get it again"
            )
            yield Frame(start, file.tell(), text, fault if cut else None)

    def _identity(self, frame: Frame) -> tuple[str, Hashable]:
        _, comment, *rows = frame.text.split("\n")[:-1]  # the text ends in a line's end
        title = _value(comment, self.name) or ""
        smiles = [_value(comment, key) for key in _SMILES_KEYS]
        charge = _value(comment, self.charge) if isinstance(self.charge, str) else None
        words = [row.split() for row in rows]
        try:
            columns, width = _columns(comment)
            symbols = tuple(row[columns.get("species", columns.get("Z", 0))] for row in words)
            numbers = _numbers(symbols)
            wide = max(map(len, words))
            if wide > width:  # ASE would not read the others
                raise RecordError(
                    "columns without a name",
                    f"{title or 'a frame'}: rows of {wide} columns, {width} of which have names; expected "
                    "Properties=species:S:1:pos:R:3:forces:R:3 or the like in the comment line",
                )
            bonds: tuple = ()
            if not any(smiles) and self.smiles.one is None and self.smiles.by_name is None:
                i = columns["pos"]
                xyz = np.array([row[i : i + 3] for row in words], dtype=np.float64)
                bonds = connectivity(numbers, self._angstrom(title or self.path.name, xyz))
        except (IndexError, KeyError, ValueError) as error:
            if isinstance(error, RecordError):
                raise
            raise RecordError(
                "frame unreadable", f"{self.path.name}, byte {frame.start}: not a frame of extended XYZ ({error})"
            ) from error
        return title, (title, *smiles, charge, symbols, bonds)

    def _geometry(self, name: str, frame: Frame) -> Geometry:
        import ase.io

        try:
            atoms = next(ase.io.iread(io.StringIO(frame.text), format="extxyz", index=0))
        except (ValueError, KeyError, IndexError, OSError, StopIteration) as error:
            raise RecordError(
                "frame unreadable", f"{name}: ASE cannot read the frame at byte {frame.start} ({error})"
            ) from error
        if atoms.pbc.any():
            raise RecordError(
                "periodic", f'{name}: a periodic cell; molecules are expected. If it is one, write pbc="F F F"'
            )
        fields = {**atoms.info, **atoms.arrays, **(atoms.calc.results if atoms.calc else {})}
        for key, closed in (("multiplicity", (1,)), ("spin", (0, 1))):
            if key in fields and fields[key] not in closed:
                raise RecordError("open shell", f"{name}: {key} {fields[key]}; closed-shell molecules are expected")
        energy, dipole = fields.get(self.energy), fields.get(self.dipole)
        if self.energy and (energy is None or energy is True):  # a word alone is true for ASE
            raise RecordError(
                "no energy",
                f"{name}: no number {self.energy!r} in the comment line; give the option energy. "
                f"There are: {', '.join(sorted(map(str, fields)))}",
            )
        if isinstance(energy, np.ndarray | list | str | bool | np.bool_):
            text = _value(frame.text.split("\n")[1], self.energy or "")
            raise RecordError("energy unreadable", f"{name}: its {self.energy!r} is {text!r}; expected one number")
        return Geometry(
            numbers=atoms.numbers,
            xyz=atoms.positions,
            energy=None if energy is None else float(energy),
            forces=self._columns_of_forces(name, fields, len(atoms)),
            dipole=None if dipole is None else np.asarray(dipole, dtype=np.float64),
            **(self._of_complex(name, fields) if self.interaction else {}),
        )

    def _of_complex(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Interaction energy, its components and the scaling of a frame."""
        values = {"interaction": (self.interaction, ()), "scaling": (self.scaling, ()), "sapt": (self.sapt, (4,))}
        result: dict[str, Any] = {}
        for what, (key, shape) in values.items():
            if key not in fields and what == "interaction":
                raise RecordError(
                    "no interaction energy",
                    f"{name}: no number {key!r} in the comment line; give the option interaction. "
                    f"There are: {', '.join(sorted(map(str, fields)))}",
                )
            if key in fields:
                value = np.asarray(fields[key])
                if value.dtype.kind not in "iuf" or value.shape != shape:
                    expected = "4 numbers" if shape else "a number"
                    raise RecordError("shapes disagree", f"{name}: {key!r} is {fields[key]!r}, expected {expected}")
                result[what] = value.astype(np.float64) if shape else float(value)
        return result

    def _group(self, frame: Frame) -> str:
        return (_value(frame.text.split("\n")[1], self.group) or "") if self.interaction else ""

    def _columns_of_forces(self, name: str, fields: dict[str, Any], n: int) -> np.ndarray | None:
        column = self.gradient or self.forces
        if column is None:
            return None
        if column in fields:
            values = np.asarray(fields[column], dtype=np.float64)
            if values.shape != (n, 3):
                raise RecordError("shapes disagree", f"{name}: {column!r} has shape {values.shape}, expected {(n, 3)}")
            return -values if self.gradient else values
        others = like_forces(str(key) for key, value in fields.items() if np.shape(value) == (n, 3))
        if others:
            raise OptionError(
                "forces named otherwise",
                f"{name}: no column {column!r}, but {', '.join(others)}; give the option forces (-dE/dx) "
                "or gradient (+dE/dx); reader.forces=null reads neither",
            )
        return None

    def _molecule(self, name: str, frame: Frame, first: Geometry) -> Molecule:
        comment = frame.text.split("\n")[1]
        stated = next((value for key in _SMILES_KEYS if (value := _value(comment, key))), None)
        charge = _value(comment, self.charge) if isinstance(self.charge, str) else str(self.charge)
        charges = (charge or "").split()
        if not all(re.fullmatch(r"[+-]?\d+(\.0*)?", text) for text in charges) or (charge is not None and not charges):
            raise RecordError("charge unreadable", f"{name}: its charge is {charge!r}; expected a whole number")
        if len(charges) > 1 and not self.interaction:
            raise RecordError("charge unreadable", f"{name}: its charge is {charge!r}; expected one whole number")
        xyz = self._angstrom(name, first.xyz)
        if self.interaction:
            molecule = complex_of(name, first.numbers, xyz, self.smiles.of(name) or stated)
            if charges:
                check_charges(name, molecule, [int(float(text)) for text in charges])
            return molecule
        number = None if charge is None else int(float(charge))
        return molecule_of(name, first.numbers, xyz, self.smiles.of(name) or stated, number)


def _value(comment: str, key: str) -> str | None:
    """The text of one `key=value` of a comment line, without quotes; ASE would drop the backslashes of a SMILES."""
    pattern = rf"(?:^|\s){re.escape(key)}=(?:\"((?:[^\"\\]|\\.)*)\"|'([^']*)'|([^\s\"']+))"
    match = re.search(pattern, comment)
    return next(group for group in match.groups() if group is not None).replace("\\\\", "\\") if match else None


def _columns(comment: str) -> tuple[dict[str, int], int]:
    """First column of each property, and the number of columns; those of plain XYZ where the line does not say."""
    words = (_value(comment, "Properties") or "species:S:1:pos:R:3").split(":")
    starts, column = {}, 0
    for name, width in zip(words[::3], words[2::3], strict=True):
        starts[name] = column
        column += int(width)
    return starts, column


def _numbers(symbols: tuple[str, ...]) -> np.ndarray:
    from ase.data import atomic_numbers

    return np.array([int(symbol) if symbol.isdigit() else atomic_numbers[symbol] for symbol in symbols])
