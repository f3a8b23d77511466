"""Reader of SDF files whose records carry energies, and where given forces and dipoles, in their data fields."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from rdkit import Chem, rdBase

from espalike.chem.files import from_molblock
from espalike.chem.molecule import Molecule
from espalike.data.readers.base import Units, like_forces
from espalike.data.readers.frames import Frame, FrameReader, Geometry, OptionError
from espalike.data.readers.monomers import check_charges, complex_of_structure
from espalike.data.schema import RecordError, whole

_FIELD = re.compile(r"^>[^\n]*?<([^>\n]+)>[^\n]*\n((?:[^\n]+\n)*)", re.MULTILINE)
_UNIT = re.compile(r"[(\[]([^)\]]+)[)\]]\s*$")


class SdfReader(FrameReader):
    """Structures of the same molecule, atoms in the same order, make one record with its conformers.

    Args:
        path: the file.
        source: name of the data source in tables; None = the file's name.
        level: level of theory of all entries.
        name: data field of a molecule's name; None = its title.
        energy: data field of the energy. A unit in brackets at its end, `E [kcal/mol]`, is the file's own word.
        forces: data field of the forces, −dE/dx, `3 A` numbers atom by atom; None = there are none; False = there may
            be some, which are not read.
        gradient: data field of the gradient, +dE/dx, in place of forces.
        dipole: data field of the dipole moment, three numbers; None = there is none.
        charge: data field of the total charge, which must be that of the structure; None = it is not checked.
        interaction: data field of the interaction energy; then each record is a complex of rigid molecules, `charge`
            may hold one number per molecule, and no energy is read. None = records are molecules.
        sapt: data field of its four components (electrostatics, exchange, induction, dispersion); None = there is none.
        scaling: data field of the distance of a complex relative to equilibrium; None = there is none.
        group: data field of its kind of interaction; None = there is none.
        units: `energies hartree; forces hartree/bohr`; coordinates of an SDF are in Å.

    Raises:
        ReaderError: when the file is missing or no SDF, or a unit is not said or does not fit.
    """

    def __init__(
        self,
        path: str | Path,
        source: str | None = None,
        level: str | None = None,
        name: str | None = None,
        energy: str = "energy",
        forces: str | bool | None = None,
        gradient: str | None = None,
        dipole: str | None = None,
        charge: str | None = None,
        interaction: str | None = None,
        sapt: str | None = None,
        scaling: str | None = None,
        group: str | None = None,
        units: str | None = None,
    ):
        super().__init__(path, source, level)
        self.name, self.energy, self.dipole, self.charge = name, energy, dipole, charge
        self.forces, self.gradient = forces, gradient
        self.interaction, self.sapt, self.scaling, self.group = interaction, sapt, scaling, group
        slope = gradient or forces
        fields = {"energies": energy, "forces": slope, "dipoles": dipole, "interaction": interaction, "sapt": sapt}
        stated = {
            what: unit[1] for what, field in fields.items() if isinstance(field, str) and (unit := _UNIT.search(field))
        }
        self._units = Units(self.path, {"coords": "angstrom", **stated}, units)

    def _frames(self, file: BinaryIO) -> Iterator[Frame]:
        lines: list[bytes] = []
        start = file.tell()
        for line in file:
            if not line.startswith(b"$$$$"):
                lines.append(line)
                continue
            stop = start + sum(map(len, lines)) + len(line)
            yield Frame(start, stop, _text(lines), None)
            start, lines = stop, []
        if b"".join(lines).strip():
            text = _text(lines)
            known = "M  END" in text or start or re.search(r"V[23]000\s*$", text, re.MULTILINE)
            fault = (
                RecordError("cut short", f"{self.path.name}, byte {start}: the last record does not end in $$$$")
                if known
                else RecordError("not this format", "not an SDF: no $$$$ in it")
            )
            yield Frame(start, start + sum(map(len, lines)), text, fault)

    def _identity(self, frame: Frame) -> tuple[str, Hashable]:
        title = self._fields(frame).get(self.name, "") if self.name else frame.text.partition("\n")[0].strip()
        with rdBase.BlockLogs():
            mol = Chem.MolFromMolBlock(frame.text, removeHs=False)  # its stereo is read off the coordinates
            if mol is None:
                from_molblock(frame.text, title or f"record at byte {frame.start}")
                raise RecordError("structure unreadable", f"{title}: RDKit cannot read the record")
        atoms = tuple((a.GetAtomicNum(), a.GetFormalCharge(), int(a.GetChiralTag())) for a in mol.GetAtoms())
        bonds = (
            (b.GetBeginAtomIdx(), b.GetEndAtomIdx(), int(b.GetBondType()), int(b.GetStereo())) for b in mol.GetBonds()
        )
        return title, (atoms, tuple(sorted(bonds)))

    @staticmethod
    def _fields(frame: Frame) -> dict[str, str]:
        return {name.strip(): value.strip() for name, value in _FIELD.findall(frame.text)}

    def _geometry(self, name: str, frame: Frame) -> Geometry:
        with rdBase.BlockLogs():
            mol = Chem.MolFromMolBlock(frame.text, sanitize=False, removeHs=False)
        conformer, n = mol.GetConformer(), mol.GetNumAtoms()
        if n > 1 and not conformer.Is3D():
            raise RecordError("no coordinates", f"{name}: a drawing in two dimensions; expected 3D coordinates")
        fields = self._fields(frame)
        if self.interaction:
            return Geometry(
                numbers=np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()]),
                xyz=conformer.GetPositions(),
                interaction=float(self._read(name, fields, self.interaction, 1)[0]),
                sapt=self._read(name, fields, self.sapt, 4) if self.sapt else None,
                scaling=float(self._read(name, fields, self.scaling, 1)[0]) if self.scaling else None,
            )
        energy = self._read(name, fields, self.energy, 1)
        charge = Chem.GetFormalCharge(mol)
        if self.charge and self._read(name, fields, self.charge, 1)[0] != charge:
            raise RecordError(
                "charge differs from structure",
                f"{name}: field {self.charge!r} says {fields[self.charge]}, the structure {charge}",
            )
        return Geometry(
            numbers=np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()]),
            xyz=conformer.GetPositions(),
            energy=float(energy[0]),
            forces=self._forces(name, fields, n),
            dipole=self._read(name, fields, self.dipole, 3) if self.dipole else None,
        )

    def _forces(self, name: str, fields: dict[str, str], n: int) -> np.ndarray | None:
        """The forces, −dE/dx, shape `(n, 3)`, or None where there are none."""
        if field := self.gradient or self.forces:
            values = self._read(name, fields, str(field), 3 * n).reshape(n, 3)
            return -values if self.gradient else values
        found = [field for field in like_forces(fields) if len(fields[field].replace(",", " ").split()) == 3 * n]
        if found and self.forces is None:
            raise OptionError(
                "forces not read",
                f"{name}: {', '.join(found)} would not be read; give reader.forces=FIELD if it holds -dE/dx or "
                "reader.gradient=FIELD if it holds +dE/dx (reader.forces=false reads neither)",
            )
        return None

    def _molecule(self, name: str, frame: Frame, first: Geometry) -> Molecule:
        if self.interaction:
            return self._complex(name, frame)
        with rdBase.BlockLogs():
            molecule = from_molblock(frame.text, name).molecule
        assert molecule is not None  # from_molblock raises otherwise
        return molecule

    def _complex(self, name: str, frame: Frame) -> Molecule:
        """The complex of a record, its charges compared with the data field `charge`."""
        with rdBase.BlockLogs():
            molecule = complex_of_structure(name, Chem.MolFromMolBlock(frame.text, removeHs=False))
        if self.charge:
            fields = self._fields(frame)
            count = max(len(fields.get(self.charge, "").split()), 1)
            charges = whole(name, f"charges in {self.charge!r}", self._read(name, fields, self.charge, count))
            check_charges(name, molecule, charges.tolist())
        return molecule

    def _group(self, frame: Frame) -> str:
        return self._fields(frame).get(self.group, "") if self.group else ""

    @staticmethod
    def _read(name: str, fields: dict[str, str], field: str, count: int) -> np.ndarray:
        """The numbers of a data field, shape `(count,)`."""
        if field not in fields:
            known = ", ".join(fields) or "none"
            raise RecordError("data field missing", f"{name}: no data field {field!r}; there are: {known}")
        try:
            values = np.array(fields[field].replace(",", " ").split(), dtype=np.float64)
        except ValueError as error:
            raise RecordError(
                "data field unreadable", f"{name}: data field {field!r} is not a number ({error})"
            ) from error
        if len(values) != count:
            raise RecordError(
                "shapes disagree", f"{name}: data field {field!r} holds {len(values)} numbers, expected {count}"
            )
        return values


def _text(lines: list[bytes]) -> str:
    return b"".join(lines).decode("utf-8", errors="replace").replace("\r\n", "\n")
