"""The label job: a store comes out, bad input is counted, a killed run goes on without loss or repetition."""

import json
import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from espalike.chem import connectivity_key
from espalike.cli.main import main
from espalike.data.split import hash_split
from espalike.data.store import Store
from espalike.qm.mmff import MMFFCalculator
from espalike.qm.xtb import XTBCalculator

CHEAP = ["calculator@sampler.calculator=mmff94", "sampler.frames=3", "sampler.starts=1"]


def test_one_bad_molecule_among_good_ones(tmp_path, capsys):
    (tmp_path / "some.smi").write_text("O water\nC1CC broken\nCO methanol\n[Na+] sodium\n")
    (tmp_path / "splits.csv").write_text("name,split\nwater,train\nmethanol,test\n")
    out = tmp_path / "store"
    arguments = [f"input={tmp_path}/some.smi", f"splits={tmp_path}/splits.csv", f"out={out}", "workers=2"]
    assert main(["label", "calculator=gfn2-xtb", *arguments, *CHEAP]) == 1
    assert "broken" in capsys.readouterr().err
    store = Store.open(out)
    assert store.manifest["rejected"] == {"unreadable": 1}
    assert store.manifest["levels"] == ["GFN2-xTB"]
    assert "calculator=gfn2-xtb" in store.manifest["command"]
    records = {record.molecule.name: record for record in store.records()}
    assert {name: record.split for name, record in records.items()} == {
        "water": "train",
        "methanol": "test",
        "sodium": hash_split(connectivity_key(records["sodium"].molecule)),  # not listed: by its connectivity
    }
    assert len(records["methanol"].conformers.xyz) == 3
    assert len(records["sodium"].conformers.xyz) == 1
    methanol = records["methanol"]
    energy, forces = XTBCalculator(accuracy=0.01)(methanol.molecule, methanol.conformers.xyz[1])
    assert methanol.conformers.energy[1] == pytest.approx(energy, abs=1e-3)
    np.testing.assert_allclose(methanol.conformers.forces[1], forces, atol=0.02)


def test_stored_geometries_start_the_dynamics_and_splits_are_kept(tmp_path):
    smiles = "[C:1]([O:2][H:6])([H:3])([H:4])[H:5]"
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.attrs["units"] = "coords Angstrom; energies kcal/mol; forces kcal/mol/Angstrom"
        file.attrs["level_of_theory"] = "B3LYP-D3BJ/DZVP"
        from espalike.chem import embed, from_smiles

        xyz = embed(from_smiles(smiles), 2, seed=1)
        for name, split in (("a", "train"), ("b", "test")):
            group = file.create_group(name)
            group.attrs.update(smiles=smiles if name == "a" else smiles.replace("O", "S"), charge=0, split=split)
            group["atomic_numbers"] = np.array([6, 8 if name == "a" else 16, 1, 1, 1, 1])
            group["coords"] = xyz.astype(np.float32)
    arguments = ["calculator=mmff94", f"input={tmp_path}/in.h5", "split=[train,val]", f"out={tmp_path}/store"]
    assert main(["label", *arguments, *CHEAP, "sampler.minimise=0"]) == 0
    (record,) = Store.open(tmp_path / "store").records()
    assert record.split == "train"
    np.testing.assert_allclose(record.conformers.xyz[0], xyz[0], atol=1e-5)
    assert record.conformers.energy[2] == pytest.approx(
        MMFFCalculator()(record.molecule, record.conformers.xyz[2])[0], abs=1e-3
    )


def test_a_killed_run_loses_and_repeats_nothing(tmp_path):
    (tmp_path / "some.smi").write_text("CO methanol\nCCO ethanol\nCC=O acetaldehyde\n")
    out = tmp_path / "store"
    arguments = ["calculator=gfn2-xtb", f"input={tmp_path}/some.smi", f"out={out}", "sampler.frames=20", "chunk=4"]
    arguments += ["calculator@sampler.calculator=mmff94"]
    process = subprocess.Popen(
        [sys.executable, "-m", "espalike.cli.label", *arguments], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    labels = lambda: {p: p.stat().st_mtime_ns for p in (out / "labels").glob("*/*.npz")}  # noqa: E731
    end = time.monotonic() + 120
    while len(labels()) < 8 and time.monotonic() < end and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(1.0)  # the worker notices that the program is gone
    first = labels()
    assert 8 <= len(first) < 63
    assert not (out / "manifest.json").exists()
    time.sleep(1.0)
    assert labels() == first  # and has stopped
    assert main(["label", *arguments]) == 0
    second = labels()
    assert {path: second[path] for path in first} == first
    assert len(second) == 3 * (20 + 1)
    store = Store.open(out)
    assert store.manifest["conformers"] == 60
    assert store.manifest["rejected"] == {}
    assert main(["label", *arguments]) == 0  # nothing left to do
    assert labels() == second
    assert Store.open(out).hash == store.hash


def test_labels_of_other_settings_are_not_mixed(tmp_path, capsys):
    (tmp_path / "store" / "labels").mkdir(parents=True)
    (tmp_path / "store" / "labels" / "settings.json").write_text(json.dumps({"calculator": {}, "sampler": {}}))
    assert main(["label", "calculator=mmff94", "input=CCO", f"out={tmp_path}/store"]) == 2
    assert "other settings" in capsys.readouterr().err


def test_nothing_to_do_is_an_error(tmp_path, capsys):
    assert main(["label", "calculator=mmff94", "input=C1CC", f"out={tmp_path}/store"]) == 2
    assert "no molecule to label" in capsys.readouterr().err
    assert main(["label", "calculator=mmff94", f"input={tmp_path}/none.smi", f"out={tmp_path}/store"]) == 2
    assert "none.smi" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()
