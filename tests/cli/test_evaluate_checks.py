"""`espalike evaluate` checks a raw file as `espalike ingest` does: a bad set scores no better than a good one."""

import csv
import json

import h5py
import numpy as np
import pytest

from espalike.chem.embedding import embed
from espalike.chem.molecule import Molecule
from espalike.cli.main import main
from espalike.qm.mmff import MMFFCalculator

SMILES = ("CCO", "CC(=O)N", "c1ccccc1O", "CCCN")


def write(path, change=lambda xyz, energy, forces: (xyz, energy, forces)):
    """Displaced geometries with the labels of MMFF94s, changed."""
    calculator, rng = MMFFCalculator("MMFF94s"), np.random.default_rng(4)
    with h5py.File(path, "w") as file:
        file.attrs["units"] = "coords angstrom; energies kcal/mol; forces kcal/mol/angstrom"
        file.attrs["level_of_theory"] = "MMFF94s"
        for smiles in SMILES:
            molecule = Molecule.from_smiles(smiles)
            xyz = embed(molecule, 6)
            xyz = xyz + rng.normal(0, 0.04, xyz.shape)
            labels = [calculator(molecule, frame) for frame in xyz]
            arrays = change(xyz, np.array([e for e, _ in labels]), np.stack([f for _, f in labels]))
            group = file.create_group(smiles)
            group.attrs.update({"smiles": molecule.smiles, "split": "test"})
            group["atomic_numbers"] = molecule.numbers
            group["coords"], group["energies"], group["forces"] = arrays
    return path


def evaluate(path, out, *settings):
    return main(["evaluate", f"data.path={path}", "baselines=[mmff94]", f"out={out}", *settings])


def collapsed(xyz, energy, forces):
    """One geometry with all atoms on one point."""
    xyz[2] = 0.0
    return xyz, energy, forces


def far(xyz, energy, forces):
    """One energy of 10^6 eV."""
    energy[3] = 2.3e7
    return xyz, energy, forces


@pytest.mark.parametrize(
    ("change", "reason"),
    [(collapsed, "bonds differ from the graph (atoms too close)"), (far, "energy far from the others")],
)
def test_conformers_that_an_ingest_drops_are_not_scored(tmp_path, capsys, change, reason):
    assert evaluate(write(tmp_path / "bad.h5", change), tmp_path / "out") == 0
    assert f"left out: CC(=O)N: 1 of 6 conformers, {reason}" in capsys.readouterr().out
    (row,) = csv.DictReader((tmp_path / "out" / "table.csv").read_text().splitlines())
    assert row["conformers"] == "20"
    left_out = json.loads((tmp_path / "out" / "summary.json").read_text())["rejected"]
    assert len(left_out) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda xyz, energy, forces: (xyz, energy, -forces), "−forces, were read as forces"),
        (lambda xyz, energy, forces: (xyz, energy / 27.2114, forces), "hartree read as eV"),
    ],
)
def test_labels_of_a_wrong_sign_or_unit_are_refused(tmp_path, capsys, change, message):
    path = write(tmp_path / "bad.h5", change)
    assert evaluate(path, tmp_path / "out") == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert "bad, MMFF94s: " in printed
    assert "set data.audit=off" in printed
    assert evaluate(path, tmp_path / "out", "data.audit=off") == 0


def test_an_entry_of_atoms_on_one_point_is_an_entry_that_cannot_be_read(tmp_path, capsys):
    path = write(tmp_path / "bad.h5")
    with h5py.File(path, "a") as file:
        file["CCO/coords"][...] = 0.0
    assert evaluate(path, tmp_path / "out") == 1
    assert "not read: CCO: no conformer is left" in capsys.readouterr().out


def test_another_consequence_of_an_audit_is_refused():
    from espalike.evaluation.run import read_records

    with pytest.raises(ValueError, match=r"data\.audit=warn: expected error or off"):
        read_records({"path": "sample", "split": "test", "level": None, "audit": "warn"})
