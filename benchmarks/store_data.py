"""The HDF5 file of benchmarks/store.py: any number of conformers, of molecules of 20 to 60 atoms.

Molecules come from the data sets in a folder; without them, from the embedded data set and distance geometry of a few
drugs. There are some 1,500 molecules for 10,000 entries of 100 conformers each. So molecules are used several times,
with other names, other displacements and another order of atoms (hence another SMILES, another graph and another place
in every cache), or with `renumbered=False` in their own order, like a molecule that has several entries.

Conformers are the known geometries displaced at random by 0.03 Å; energies and forces are those of springs that pull
each atom back, E = E₀ + ½ k Δx², F = −k Δx, with E₀ of the free atoms by the statistical model
−0.768745 Z^(7/3) + ½ Z² − 0.269900 Z^(5/3) hartree (J. Schwinger, Phys. Rev. A 24, 2353 (1981)). They have no
meaning, but pass every check of an ingest.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

LEVEL = "springs"
PER_ENTRY, SIGMA, SPRING = 100, 0.03, 1200.0  # conformers; Å; kcal/mol/Å²
SHARED = ("openff_torsiondrives_forces.h5", "hutchison_conformers.h5", "openff_opt_geometries.h5", "pepconf.h5",
          "botnet_3bpa_methanol.h5", "rmd17_2k.h5")  # fmt: skip
DRUGS = (
    "CC(=O)Oc1ccccc1C(=O)O", "CC(C)Cc1ccc(cc1)C(C)C(=O)O", "CN1C2CCC1C(C(=O)OC)C(OC(=O)c1ccccc1)C2",
    "Cc1ccc(cc1)-c1cc(C(F)(F)F)nn1-c1ccc(cc1)S(N)(=O)=O", "Cn1c(=O)c2c(ncn2C)n(C)c1=O", "COc1ccc2cc(C(C)C(=O)O)ccc2c1",
    "CC1(C)SC2C(NC(=O)Cc3ccccc3)C(=O)N2C1C(=O)O", "CCN(CC)CC(=O)Nc1c(C)cccc1C", "CC(C)NCC(O)COc1cccc2ccccc12",
    "Clc1ccc(cc1)C(c1ccccc1)N1CCNCC1", "CN(C)CCOC(c1ccccc1)c1ccccc1", "NC(Cc1c[nH]c2ccccc12)C(=O)NCC(=O)O",
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A molecule to make entries of: mapped SMILES, atomic numbers `(A,)`, geometries [Å] `(G, A, 3)`."""

    smiles: str
    numbers: np.ndarray
    xyz: np.ndarray


def fits(numbers: np.ndarray) -> bool:
    return 20 <= len(numbers) <= 60


def from_shared(folder: Path) -> list[Source]:
    import h5py

    sources: dict[str, Source] = {}
    for path in (folder / name for name in SHARED):
        if path.is_file():
            with h5py.File(path) as file:
                for group in file.values():
                    smiles, numbers = str(group.attrs["smiles"]), group["atomic_numbers"][()]
                    if fits(numbers) and smiles not in sources:
                        sources[smiles] = Source(smiles, numbers, group["coords"][:PER_ENTRY].astype(np.float64))
    return list(sources.values())


def from_package() -> list[Source]:
    from espalike.chem import embed, from_smiles
    from espalike.data.store import Store

    sample = [Source(r.molecule.smiles, r.molecule.numbers, r.conformers.xyz) for r in Store.open("sample").records()]
    molecules = [from_smiles(smiles) for smiles in DRUGS]
    return [s for s in sample if fits(s.numbers)] + [Source(m.smiles, m.numbers, embed(m, 5)) for m in molecules]


def free_atoms(numbers: np.ndarray) -> float:
    """Energy of free atoms in the statistical model [kcal/mol]."""
    from espalike.units import convert

    z = numbers.astype(np.float64)
    return float(convert((-0.768745 * z ** (7 / 3) + z**2 / 2 - 0.2699 * z ** (5 / 3)).sum(), "hartree", "kcal/mol"))


def entry(
    source: Source, n: int, rng: np.random.Generator, renumbered: bool = True
) -> tuple[str, dict[str, np.ndarray]]:
    """Mapped SMILES and arrays of `n` conformers, atoms in an order of their own or as they come."""
    order = rng.permutation(len(source.numbers)) if renumbered else np.arange(len(source.numbers))
    place = np.argsort(order)
    smiles = re.sub(r":(\d+)\]", lambda m: f":{place[int(m[1]) - 1] + 1}]", source.smiles)
    at = source.xyz[np.sort(np.arange(n) % len(source.xyz))][:, order]
    xyz = (at + SIGMA * rng.standard_normal(at.shape, np.float32)).astype(np.float32)
    shift = xyz.astype(np.float64) - at
    energy = free_atoms(source.numbers) + 0.5 * SPRING * np.square(shift).sum((1, 2))
    forces = (-SPRING * shift).astype(np.float32)
    numbers = source.numbers[order].astype(np.int8)
    return smiles, {"atomic_numbers": numbers, "coords": xyz, "energies": energy, "forces": forces}


def write_file(path: Path, sources: list[Source], conformers: int, renumbered: bool = True) -> None:
    """The HDF5 file, in this project's layout."""
    import h5py

    from espalike.files import replacing

    rng, entries = np.random.default_rng(0), -(-conformers // PER_ENTRY)
    with replacing(path) as partial, h5py.File(partial, "w", libver="latest") as file:
        file.attrs.update(
            units="coords angstrom; energies kcal/mol; forces kcal/mol/angstrom",
            level_of_theory=LEVEL, source="benchmarks/store.py", license="CC0",
            description="known geometries displaced at random; energies and forces of springs",
        )  # fmt: skip
        for i in track(range(entries), description="making the file", transient=True, disable=not sys.stderr.isatty()):
            m = i % len(sources)
            smiles, arrays = entry(sources[m], min(PER_ENTRY, conformers - i * PER_ENTRY), rng, renumbered)
            group = file.create_group(f"entry-{i:06d}")
            group.attrs["smiles"] = smiles
            for name, array in arrays.items():
                group.create_dataset(name, data=array)


def ensure_file(work: Path, shared: Path, conformers: int, renumbered: bool = True) -> Path:
    path = work / f"{conformers}{'' if renumbered else '-as-drawn'}.h5"
    if not path.is_file():
        sources = from_shared(shared)
        if not sources:
            print(f"note: no data sets in {shared}; using the embedded one and distance geometry", file=sys.stderr)
            sources = from_package()
        write_file(path, sources, conformers, renumbered)
    return path
