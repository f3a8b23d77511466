"""The suite of layouts of arrays: records are dictionaries of arrays, written and read by h5py or NumPy alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np

from tests.data.readers.samples import Sample
from tests.data.readers.suite import ReaderSuite


class ArraysSuite(ReaderSuite):
    """Tests of a layout of arrays: an HDF5 file with one group per sample, or a folder with one archive per sample.

    Attributes:
        names: names of the arrays of `Sample`, by quantity of `espalike.data.readers.arrays.QUANTITIES`.
        scale: one unit of the format in internal units, by quantity.
        units: units that stand beside the arrays.
        single: quantities stored in single precision.
        texts: how HDF5 holds smiles and charge, as `attributes` or as `arrays`.
    """

    names: ClassVar[Mapping[str, str]]
    scale: ClassVar[Mapping[str, float]] = {}
    units: ClassVar[Mapping[str, str]] = {}
    single: ClassVar[Sequence[str]] = ()
    texts: ClassVar[str] = "attributes"

    @property
    def is_archive(self) -> bool:
        return bool(self.first_file)

    def arrays(self, s: Sample) -> dict[str, Any]:
        """A sample's arrays by name, in the units of the format; override to add others."""
        sign = -1.0 if "gradient" in self.names else 1.0
        values = {
            "smiles": s.smiles, "charge": s.charge, "numbers": s.numbers, "coords": s.xyz, "energy": s.energy,
            "forces": s.forces, "gradient": None if s.forces is None else sign * s.forces,
        }  # fmt: skip
        record = {}
        for what, value in values.items():
            if what in self.names and value is not None:
                if what in self.scale:
                    value = value / self.scale[what]
                record[self.names[what]] = value.astype(np.float32) if what in self.single else value
        return record

    def charge_of(self, record: dict[str, Any], s: Sample) -> int:
        """Total charge that a record says; `s` is the sample it was made of."""
        return int(record[self.names["charge"]]) if "charge" in self.names else s.charge

    def write(self, path, samples):
        self.save(path, {s.name: self.arrays(s) for s in samples})

    def save(self, path: Path, records: Mapping[str, Mapping[str, Any]], units: Mapping[str, str] | None = None):
        """Write records; `units` of the first one that differ."""
        if self.is_archive:
            path.mkdir()
            for name, record in records.items():
                np.savez(path / f"{name}.npz", **record)
            return
        units_of_first = {**self.units, **(units or {})}
        with h5py.File(path, "a") as file:
            file.attrs.update(self.file_attributes())
            for name, record in records.items():
                group = file.create_group(name)
                for array, value in record.items():
                    if self.texts == "attributes" and not isinstance(value, np.ndarray):
                        group.attrs[array] = value
                    elif isinstance(value, str):
                        group.create_dataset(array, data=[value], dtype=h5py.string_dtype())
                    else:
                        group[array] = value
                for array, unit in (units_of_first if name == "mol-0" else self.units).items():
                    if array in group:
                        group[array].attrs["units"] = unit

    def file_attributes(self) -> dict[str, str]:
        """Attributes of an HDF5 file."""
        return {}

    def load(self, path: Path) -> dict[str, dict[str, Any]]:
        """The records of a fixture by name, as h5py and NumPy read them."""
        if self.is_archive:
            return {file.stem: dict(np.load(file)) for file in sorted(path.iterdir())}
        with h5py.File(path) as file:
            return {
                name: {**group.attrs, **{key: data[()] for key, data in group.items()}} for name, group in file.items()
            }

    def read(self, path):
        derivative = "gradient" if "gradient" in self.names else "forces"
        sign = -1.0 if derivative == "gradient" else 1.0
        read = []
        for (name, record), s in zip(self.load(path).items(), self.samples(), strict=True):
            xyz, energy, slope = (
                record[self.names[what]].astype(float) * self.scale.get(what, 1.0)
                for what in ("coords", "energy", derivative)
            )
            smiles = record[self.names["smiles"]] if "smiles" in self.names else s.smiles
            smiles = smiles.ravel()[0] if isinstance(smiles, np.ndarray) else smiles
            smiles = smiles.decode() if isinstance(smiles, bytes) else str(smiles)
            numbers, charge = record[self.names["numbers"]], self.charge_of(record, s)
            read.append(Sample(name, smiles, numbers, charge, xyz, energy, sign * slope, id=self.id_of(name)))
        return read

    def id_of(self, name: str) -> str:
        """Identifier of a sample's record."""
        return name

    def spoil(self, path, name):
        if not name.startswith("unit "):
            super().spoil(path, name)
            return
        wrong = {"unit unknown": ("coords", "furlong"), "unit contradicts": ("energy", "ev")}[name]
        path.unlink()
        self.save(path, {s.name: self.arrays(s) for s in self.samples()}, {self.names[wrong[0]]: wrong[1]})
