"""The project's own HDF5 layout through the suite of all readers."""

import h5py
import numpy as np

from espalike.data.readers.hdf5 import Hdf5Reader
from tests.data.readers.suite import BOHR, HARTREE, Caught, Impossible, ReaderSuite, Sample, cut, empty, foreign

UNITS = "coords bohr; energies hartree; forces hartree/bohr (force = -dE/dx)"


def edit(name, value=None):
    """Replaces a data set of the first molecule by what `value` makes of it; None removes it."""

    def spoil(path):
        with h5py.File(path, "a") as file:
            group = file["mol-0"]
            old = group[name][()]
            del group[name]
            if value is not None:
                group[name] = value(old)

    return spoil


def set_attribute(where, key, value):
    def spoil(path):
        with h5py.File(path, "a") as file:
            file[where].attrs[key] = value

    return spoil


def nan_at(index):
    def change(array):
        array[index] = np.nan
        return array

    return change


class TestHdf5(ReaderSuite):
    reader = Hdf5Reader
    config = "hdf5"
    filename = "set.h5"
    level = "B3LYP-D3BJ/DZVP"

    def write(self, path, samples):
        with h5py.File(path, "w") as file:
            file.attrs.update({"units": UNITS, "level_of_theory": f"{self.level} (Psi4)", "license": "MIT"})
            for s in samples:
                group = file.create_group(s.name)
                group.attrs.update({"smiles": s.smiles, "charge": s.charge})
                group["atomic_numbers"] = s.numbers.astype(np.uint8)
                group["coords"] = s.xyz / BOHR
                group["energies"] = s.energy / HARTREE
                group["forces"] = s.forces / (HARTREE / BOHR)

    def read(self, path):
        with h5py.File(path) as file:
            return [
                Sample(
                    name,
                    group.attrs["smiles"],
                    group["atomic_numbers"][:],
                    int(group.attrs["charge"]),
                    group["coords"][:] * BOHR,
                    group["energies"][:] * HARTREE,
                    group["forces"][:] * (HARTREE / BOHR),
                    id=name,
                )
                for name, group in file.items()
            ]

    def corruptions(self):
        def permute(equal):
            def spoil(path):
                first, *others = self.samples()
                self.write(path, [first.permuted(equal), *others])

            return spoil

        return {
            "truncated": Caught(cut, "set.h5: it is cut short; get the file again", whole=True),
            "empty": Caught(empty, r"not HDF5 or is damaged.*(file size = 0|signature not found)", whole=True),
            "foreign": Caught(foreign, "set.h5: it is not HDF5 or is damaged", whole=True),
            "unit unknown": Caught(set_attribute("mol-0/coords", "units", "furlong"), "'furlong', which is not known"),
            "unit contradicts": Caught(
                set_attribute("mol-0/energies", "units", "kcal/mol"), "'kcal/mol', the file as a whole says 'hartree'"
            ),
            "permuted atoms": Caught(permute(False), r"mol-0: atom \d+ has atomic number \d, \d in the SMILES"),
            "permuted equal atoms": Caught(permute(True), "mol-0: no conformer is left.*bonds differ from the graph"),
            "wrong charge": Caught(set_attribute("mol-0", "charge", 1), "mol-0: charge 1, 0 in the SMILES"),
            "nan energy": Caught(edit("energies", nan_at(1)), "mol-0: 1 energies are NaN"),
            "nan forces": Caught(edit("forces", nan_at((1, 2, 0))), "forces hold NaN"),
            "nan coordinates": Caught(edit("coords", nan_at((0, 0, 0))), "coordinates hold NaN"),
            "duplicated ids": Impossible("names of HDF5 groups are unique"),
            "missing array": Caught(edit("coords"), "data set 'coords' is missing"),
            "wrong shape": Caught(edit("energies", lambda e: e[1:]), r"energies have shape \(2,\), expected \(3,\)"),
        }
