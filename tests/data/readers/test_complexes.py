"""Complexes read from the packed layout, extended XYZ and SDF: the same records from each, each fault by name."""

import re

import h5py
import numpy as np
import pytest
from rdkit import Chem

from espalike.chem import to_rdkit
from espalike.chem.complexes import monomers
from espalike.data.readers.base import ReaderError
from espalike.data.readers.complexes import ComplexesReader
from espalike.data.readers.extxyz import ExtxyzReader
from espalike.data.readers.sdf import SdfReader
from espalike.data.schema import Rejection
from tests.data.test_complexes import dimer

PAIRS = ("CC(=O)[O-].C[NH3+]", "O.c1ccccc1", "CC#N.O")
KCAL = 4.184
"""One kcal/mol in kJ/mol."""


def records():
    return [dimer(pair, (6.0, 7.0 + i), name=f"pair-{i}") for i, pair in enumerate(PAIRS)]


def packed(path, chosen, **changes):
    """The packed layout; `changes` replace arrays, None leaves one out."""
    sapt = np.concatenate([r.conformers.sapt for r in chosen])
    arrays = {
        "name": [r.id for r in chosen],
        "smiles": [r.molecule.smiles for r in chosen],
        "charge_a": [monomers(r.molecule)[0][0].net_charge for r in chosen],
        "charge_b": [monomers(r.molecule)[1][0].net_charge for r in chosen],
        "n_a": [monomers(r.molecule)[0][0].n_atoms for r in chosen],
        "group": ["NH-O", "noHB", "Se"],
        "set": ["NCIA_HB375x10", "NCIA_HB375x10", "NCIA_SH250x10"],
        "split": ["train", "val", "test"],
        "n_atoms": [r.molecule.n_atoms for r in chosen],
        "n_points": [len(r.conformers.xyz) for r in chosen],
        "atomic_numbers": np.concatenate([r.molecule.numbers for r in chosen]),
        "coords": np.concatenate([r.conformers.xyz.reshape(-1, 3) for r in chosen]),
        "interaction_energy": np.concatenate([r.conformers.interaction for r in chosen]),
        "scaling": np.concatenate([r.conformers.scaling for r in chosen]),
        # induction is split into a part of second order and δHF; the last column is the total
        "sapt": np.stack([*sapt.T[:2], sapt[:, 2] + 0.25, np.full(len(sapt), -0.25), sapt[:, 3], sapt.sum(1)], axis=1),
    }
    with h5py.File(path, "w") as file:
        attributes = {
            "units": "coords angstrom; energies and sapt kcal/mol",
            "level_of_theory": "CCSD(T)/CBS composite",
        }
        for key, value in {**attributes, **changes.pop("attributes", {})}.items():
            if value is not None:
                file.attrs[key] = value
        for name, values in {**arrays, **changes}.items():
            if values is not None:
                file[name] = values
    return path


def frames(path, chosen, smiles=lambda r: r.molecule.smiles, factor=1.0, extra=lambda r: ""):
    """Extended XYZ, the components with the induction of the first geometry only."""
    lines = []
    for r in chosen:
        symbols = [a.GetSymbol() for a in to_rdkit(r.molecule).GetAtoms()]
        c = r.conformers
        for k, xyz in enumerate(c.xyz):
            comment = f'Properties=species:S:1:pos:R:3 pbc="F F F" name={r.id} smiles="{smiles(r)}"'
            comment += f' interaction={float(c.interaction[k] * factor)!r} group="hydrogen bonds" {extra(r)}'
            if k == 0:
                comment += f' scaling={c.scaling[k]} sapt="{" ".join(str(x * factor) for x in c.sapt[k])}"'
            rows = [f"{s} {x:.17g} {y:.17g} {z:.17g}" for s, (x, y, z) in zip(symbols, xyz, strict=True)]
            lines += [str(len(rows)), comment, *rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def sdf(path, chosen, charge=lambda r: str(r.molecule.net_charge)):
    with Chem.SDWriter(str(path)) as writer:
        for r in chosen:
            for k, xyz in enumerate(r.conformers.xyz):
                mol = to_rdkit(r.molecule, xyz)
                mol.SetProp("_Name", r.id)
                mol.SetProp("E [kJ/mol]", repr(float(r.conformers.interaction[k] * KCAL)))
                mol.SetProp("type", r.group)
                mol.SetProp("q", charge(r))
                writer.write(mol)
    return path


def extxyz(path, **options):
    given = {"level": "CCSD(T)/CBS", "interaction": "interaction", "sapt": "sapt"}
    return ExtxyzReader(path, **{**given, "units": "interaction kj/mol; sapt kj/mol", **options})


def only(reader):
    (entry,) = list(reader)
    return entry


def assert_equal(entry, record, sapt=True, tolerance=1e-9):
    assert not isinstance(entry, Rejection), entry
    assert (entry.id, entry.key) == (record.id, record.key)
    for name in ("numbers", "charges", "bonds", "orders"):
        np.testing.assert_array_equal(getattr(entry.molecule, name), getattr(record.molecule, name))
    assert np.isnan(entry.conformers.energy).all()
    for name in ("xyz", "interaction", *(("sapt", "scaling") if sapt else ())):
        a, b = getattr(entry.conformers, name), getattr(record.conformers, name)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


def test_packed(tmp_path):
    reader = ComplexesReader(packed(tmp_path / "nci.h5", records()))
    entries = list(reader)
    assert len(reader) == len(entries) == 3
    for entry, record in zip(entries, records(), strict=True):
        assert_equal(entry, record)
        assert entry.conformers.level == "CCSD(T)/CBS"
    assert [entry.split for entry in entries] == ["train", "val", "test"]
    assert [entry.group for entry in entries] == ["hydrogen bonds", "no hydrogen bond", "chalcogen bonds"]
    assert [entry.conformers.source for entry in entries] == ["NCIA_HB375x10", "NCIA_HB375x10", "NCIA_SH250x10"]
    assert [entry.id for entry in reader.entries(2)] == ["pair-2"]


@pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "unmapped"])
def test_extended_xyz(tmp_path, mapped):
    smiles = (lambda r: r.molecule.smiles) if mapped else (lambda r: PAIRS[int(r.id[-1])])
    reader = extxyz(frames(tmp_path / "d.xyz", records(), smiles, factor=KCAL, extra=lambda r: 'charge="-1 1"'))
    first, *others = list(reader)
    assert_equal(first, records()[0])
    assert first.group == "hydrogen bonds"
    assert [entry.reason for entry in others] == ["charge differs from SMILES"] * 2
    reader = extxyz(frames(tmp_path / "d.xyz", records(), smiles, factor=KCAL))
    for entry, record in zip(reader, records(), strict=True):
        assert_equal(entry, record)


def test_unmapped_molecules_are_laid_on_the_geometry_in_any_order(tmp_path):
    record = dimer("CC#N.O", (6.0,), name="pair")
    entry = only(extxyz(frames(tmp_path / "d.xyz", [record], lambda r: "O.CC#N", factor=KCAL)))
    np.testing.assert_array_equal(entry.molecule.numbers, record.molecule.numbers)
    np.testing.assert_array_equal(entry.molecule.bonds, record.molecule.bonds)


def test_sdf(tmp_path):
    reader = SdfReader(
        sdf(tmp_path / "d.sdf", records()), level="x", interaction="E [kJ/mol]", group="type", charge="q"
    )
    for entry, record in zip(reader, records(), strict=True):
        assert_equal(entry, record, sapt=False, tolerance=1e-4)  # coordinates of four decimals
        assert entry.group == "hydrogen bonds"


def test_units_must_be_stated(tmp_path):
    path = packed(tmp_path / "nci.h5", records(), attributes={"units": None})
    with pytest.raises(ReaderError, match="nothing says the unit of 'interaction_energy'"):
        list(ComplexesReader(path))
    units = "coords angstrom; energies kcal/mol; sapt kcal/mol"
    assert_equal(next(iter(ComplexesReader(path, units=units))), records()[0])
    with pytest.raises(ReaderError, match="known units for them"):
        ComplexesReader(path, units="coords angstrom; energies angstrom")
    with pytest.raises(ReaderError, match="nothing says the unit of 'interaction'"):
        list(extxyz(frames(tmp_path / "d.xyz", records()), units=None))
    with pytest.raises(ReaderError, match="interaction are in unit 'nm'; known units"):
        extxyz(tmp_path / "d.xyz", units="interaction nm")
    with pytest.raises(ReaderError, match="nothing says the unit of 'interaction'"):
        list(SdfReader(sdf(tmp_path / "d.sdf", records()), level="x", interaction="q"))


def spoiled(name, i, value):
    """A change of one entry of an array."""

    def change(chosen):
        values = {
            "smiles": [r.molecule.smiles for r in chosen],
            "charge_b": [1, 0, 0],
            "n_a": [7, 3, 6],
            "atomic_numbers": np.concatenate([r.molecule.numbers for r in chosen]),
            "interaction_energy": np.concatenate([r.conformers.interaction for r in chosen]),
        }[name]
        values[i] = value
        return {name: values}

    return change


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        (spoiled("smiles", 0, "O.[Ar]"), "monomer unknown", "pair-0, molecule 2: atom 1 is Ar"),
        (spoiled("smiles", 0, "O.C(C)(C)(C)(C)C"), "monomer unknown", "pair-0, molecule 2: atom 1 .C. has more bonds"),
        (spoiled("smiles", 0, "[O:1]([H:2])[H:3]"), "monomer unknown", "pair-0: .* is one molecule"),
        (
            spoiled("charge_b", 0, 0),
            "charge differs from SMILES",
            r"pair-0: charge \+0 of molecule 2, \+1 in its graph",
        ),
        (spoiled("n_a", 0, 6), "atom count differs from SMILES", "pair-0: the first molecule has 6 atoms, .* 7"),
        (spoiled("atomic_numbers", 0, 7), "atomic numbers differ from SMILES", "pair-0: atom 1 has atomic number 7"),
        (spoiled("smiles", 0, "[H:1][H:2].[H:3][H:4]"), "shapes disagree", "pair-0: 15 atomic numbers, 4"),
        (
            spoiled("interaction_energy", slice(0, 2), np.nan),
            "interaction energies not finite",
            "pair-0: interaction energies",
        ),
    ],
)
def test_a_bad_complex_is_left_out_by_name(tmp_path, change, reason, message):
    chosen = records()
    first, *others = ComplexesReader(packed(tmp_path / "nci.h5", chosen, **change(chosen)))
    assert first.reason == reason
    assert re.search(message, first.message), first.message
    assert [entry.id for entry in others] == ["pair-1", "pair-2"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"interaction_energy": np.zeros(5)}, "interaction_energy has 5 rows, expected 6"),
        ({"coords": np.zeros((9, 3))}, "coords has 9 rows"),
        ({"coords": None}, "no coords in it"),
        ({"charge_a": [0]}, "charge_a has 1 rows, expected 3"),
    ],
)
def test_arrays_that_do_not_fit_refuse_the_file(tmp_path, changes, message):
    with pytest.raises(ReaderError, match=message):
        ComplexesReader(packed(tmp_path / "nci.h5", records(), **changes))


def test_no_file_and_no_hdf5(tmp_path):
    with pytest.raises(ReaderError, match="no such file"):
        ComplexesReader(tmp_path / "nci.h5")
    (tmp_path / "nci.h5").write_text("no")
    with pytest.raises(ReaderError, match="not HDF5 or is damaged"):
        ComplexesReader(tmp_path / "nci.h5")


@pytest.mark.parametrize(
    ("smiles", "options", "reason", "message"),
    [
        ("O.O", {}, "shapes disagree", "9 atomic numbers, 6 atoms in the SMILES"),
        ("O.CC=N", {}, "shapes disagree", "atomic numbers"),
        ("O.C[N+]#[C-]", {}, "monomer unknown", "molecule 2 .* is none of those that its geometry shows"),
        ("O.[Ar]", {}, "monomer unknown", "molecule 2: atom 1 is Ar"),
        ("O.CC#N", {"interaction": "e_int"}, "no interaction energy", "no number 'e_int' in the comment line"),
        ("O.CC#N", {"charge": "name"}, "charge unreadable", "expected a whole number"),
        ("O.CC#N", {"sapt": "scaling"}, "shapes disagree", "'scaling' is .*, expected 4 numbers"),
    ],
)
def test_a_bad_frame_is_left_out_by_name(tmp_path, smiles, options, reason, message):
    path = frames(tmp_path / "d.xyz", [dimer("O.CC#N", (6.0,), name="pair")], lambda r: smiles)
    entry = only(extxyz(path, **options))
    assert (entry.id, entry.reason) == ("pair", reason)
    assert re.search(message, entry.message), entry.message


def test_bad_sdf_records_are_left_out_by_name(tmp_path, record_of):
    path = sdf(tmp_path / "d.sdf", [dimer(PAIRS[0], (6.0,), name="pair")], charge=lambda r: "-1 0")
    entry = only(SdfReader(path, level="x", interaction="E [kJ/mol]", charge="q"))
    assert entry.reason == "charge differs from SMILES"
    assert "charge +0 of molecule 2, +1 in its graph" in entry.message
    single = record_of("CCO", 1)
    with Chem.SDWriter(str(path)) as writer:
        mol = to_rdkit(single.molecule, single.conformers.xyz[0])
        mol.SetProp("E [kJ/mol]", "1.0")
        writer.write(mol)
    entry = only(SdfReader(path, level="x", interaction="E [kJ/mol]"))
    assert entry.reason == "no complex"
