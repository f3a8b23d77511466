"""The benchmarks run and say what they measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from espalike import modelfile

ROOT = Path(__file__).parents[1]


def test_md_step(tmp_path, monkeypatch, capsys):
    """In this process, which imports OpenFF for other tests too: the import takes most of the time."""
    pytest.importorskip("openff.toolkit", reason="needs the extra openff")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import md_step

    options = ["--forcefields", "class1", "--molecules", "1", "--waters", "0", "--rounds", "3"]
    options += ["--platform", "Reference", "--json", str(tmp_path / "cost.json")]
    monkeypatch.setattr(sys, "argv", ["md_step.py", *options])
    assert md_step.main() == 0
    printed = capsys.readouterr().out
    result = json.loads((tmp_path / "cost.json").read_text())
    rows = result["forms"]["class1"]["interactions"]
    assert (rows["HarmonicBond"], rows["HarmonicAngle"]) == (45, 83)
    assert result["forms"]["class1"]["formats"]["ffxml"] == "yes"
    (gas,) = result["gas"].values()
    assert gas["class1"]["/class1"] == 1.0
    assert 0.2 < gas["class1"]["/openff-2.2.1"] < 5.0
    assert gas["openff-2.2.1"]["/class1"] == pytest.approx(1.0 / gas["class1"]["/openff-2.2.1"], rel=1e-6)
    for name in gas:
        assert name.split(",")[0] in printed


def test_train_step(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import train_step

    options = ["--threads", "1", "--rounds", "2", "--molecules", "2", "--width", "16"]
    monkeypatch.setattr(sys, "argv", ["train_step.py", *options, "--json", str(tmp_path / "step.json")])
    assert train_step.main() == 0
    printed = capsys.readouterr().out
    result = json.loads((tmp_path / "step.json").read_text())
    for name in (
        "conformers_per_s",
        "ratio_step_vs_double_backward",
        "ratio_energy_vs_double_backward",
        "energy_vs_bandwidth_floor",
    ):
        assert list(result[name]) == ["1"]
        assert result[name]["1"] > 0
    for setting in ("folded", "all learned"):
        paths = result["tables"]["1"][setting]["paths"]
        assert paths["double backward"]["step_ratio"] == 1.0
        assert setting in printed
        assert paths["floor"]["megabytes"] > 0
    bonded, everything = (result["tables"]["1"][s]["paths"]["floor"]["megabytes"] for s in ("folded", "all learned"))
    assert everything > 1.5 * bonded  # pairs are most of it


@pytest.mark.parametrize("forcefield", ["class1", "class2", "dexp"])
def test_paths_of_a_training_step_agree(forcefield, monkeypatch):
    """What the benchmark compares: energies, forces and every weight's gradient, in double precision."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import train_step

    batch = train_step.labelled(["CC(=O)NC", "C1CC1O", "C=CC#N"], 3, torch.float64, "cpu")
    problem = train_step.Problem.of(train_step.network(forcefield, 16, folded=False).double(), batch)
    outcomes = []
    for path in train_step.PATHS:
        problem.optimizer.zero_grad()
        problem.differentiate(path, problem.model(batch))
        outcome = problem.predicted(path, problem.model(batch))
        gradients = [p.grad for p in problem.model.parameters() if p.grad is not None]
        outcomes.append([outcome.energy.detach(), outcome.forces.detach(), *gradients])
    for other in outcomes[1:]:
        for one, two in zip(outcomes[0], other, strict=True):
            torch.testing.assert_close(two, one, rtol=1e-10, atol=1e-10 * max(1.0, float(one.abs().max())))


def test_the_loops_of_a_training_end_with_the_same_model(tmp_path, monkeypatch):
    """So that their times can be compared."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import train_loop

    weights = []
    for name in ("bare loop", "espalike train"):
        settings = ["experiment=quickstart", "model=tiny", "trainer.max_epochs=2", "trainer.enable_progress_bar=false"]
        assert train_loop.seconds(train_loop.LOOPS[name], settings, tmp_path / name) > 0
        weights.append(modelfile.read(tmp_path / name / "model.espalike")[1])
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_end_to_end(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks/end_to_end.py"), "--before", "HEAD", "--seeds", "3"]
    settings = ["experiment=quickstart", "model=tiny", "trainer.max_epochs=2", "--json", str(tmp_path / "runs.json")]
    done = subprocess.run([*command, *settings], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "runs.json").read_text())
    assert row["before"]["loss"] == row["after"]["loss"]  # the same version, the same seed
    assert 0.0 < row["minutes"][0] < row["before"]["total"]
    assert "reached in 1 of 1 runs" in done.stdout


@pytest.mark.parametrize("copies", ["1", "3"])
def test_time_steps(copies, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import time_steps

    options = ["--potential", "espalike-small", "--models", "espalike-small", "--molecules", "ethanol", "--outer", "1"]
    options += ["--picoseconds", "0.5", "--copies", copies, "--json", str(tmp_path / "steps.json")]
    monkeypatch.setattr(sys, "argv", ["time_steps.py", *options])
    assert time_steps.main() == 0
    rows = json.loads((tmp_path / "steps.json").read_text())["molecules"]["ethanol"]
    assert rows["reference again"]["calls/ps"] == 2000
    assert rows["espalike-small, 1 fs"]["calls/ps"] == 1000
    assert abs(rows["espalike-small, 1 fs"]["bonds [mÅ]"]) < 30
    assert 150 < rows["espalike-small, 1 fs"]["T [K]"] < 450
    assert "ethanol on espalike-small" in capsys.readouterr().out


def test_copies_have_the_energy_of_the_potential(monkeypatch):
    """Force field and difference together, of three copies at different geometries."""
    import argparse

    import numpy as np
    import openmm

    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import time_steps

    import espalike
    from espalike.potential import potential
    from tests.bridge.cases import NMA, perturbed

    mmff94 = potential("mmff94", NMA)
    args = argparse.Namespace(copies=3, inner=0.5, friction=1.0)
    system, integrator = time_steps.multiple(espalike.load("espalike-2"), mmff94, NMA, 2.0, args)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    rng = np.random.default_rng(0)
    xyz = [perturbed(NMA)[0] + rng.normal(0.0, 0.02, (NMA.n_atoms, 3)) for _ in range(3)]
    apart = [points + np.array([time_steps.APART * i, 0.0, 0.0]) for i, points in enumerate(xyz)]
    context.setPositions(np.concatenate(apart) / 10)
    energy = context.getState(energy=True).getPotentialEnergy()._value / 4.184
    assert energy == pytest.approx(sum(mmff94(NMA, points)[0] for points in xyz), abs=1e-4)


def test_time_steps_measure_angles_as_rdkit_does():
    import numpy as np
    from rdkit.Chem import rdMolTransforms

    sys.path.insert(0, str(ROOT / "benchmarks"))
    import time_steps

    import espalike
    from espalike.chem import to_rdkit
    from tests.bridge.cases import NMA, perturbed

    system = espalike.load("espalike-small").parametrize(NMA)
    xyz = perturbed(NMA)
    bonds, angles, torsions = time_steps.internal(system, xyz)
    conformer = to_rdkit(NMA, xyz[0]).GetConformer()
    idx = system.bound("HarmonicBond").tuples.idx.tolist()
    np.testing.assert_allclose(bonds[0], [rdMolTransforms.GetBondLength(conformer, *row) for row in idx], atol=1e-8)
    idx = system.bound("HarmonicAngle").tuples.idx.tolist()
    np.testing.assert_allclose(angles[0], [rdMolTransforms.GetAngleDeg(conformer, *row) for row in idx], atol=1e-6)
    rows = {(min(r[1:3]), max(r[1:3])): r for r in system.bound("PeriodicProper").tuples.idx.tolist()}
    expected = [rdMolTransforms.GetDihedralDeg(conformer, *row) for _, row in sorted(rows.items())]
    np.testing.assert_allclose(torsions[0], expected, atol=1e-6)


def test_parametrize(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import parametrize

    options = ["--formats", "system", "--molecules", "2", "--rounds", "1", "--starts", "0", "--no-openff"]
    assert parametrize.main([*options, "--atoms", "300", "--json", str(tmp_path / "cost.json")]) == 0
    printed = capsys.readouterr().out
    result = json.loads((tmp_path / "cost.json").read_text())
    assert result["batches"]["system"]["cpu_ms"] > 0
    (row,) = result["proteins"]
    assert row["atoms"] == 306
    assert 0 < row["cpu_s"] < 60
    assert "system" in printed


def test_gpu_check(tmp_path, monkeypatch, capsys):
    """The small version, on the CPU; a difference from the CPU is reported."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import gpu_check

    few = {"molecules": 2, "conformers": (3,), "width": 8, "labels": 1, "copy": 2**20, "rounds": 1}
    monkeypatch.setattr(gpu_check, "SIZES", {"cpu": few})
    monkeypatch.setattr(gpu_check, "FORCE_FIELDS", ("class1",))
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--json", str(tmp_path / "gpu.json"), "--device", "cpu"])
    assert gpu_check.main() == 0
    assert "conformers/s" in capsys.readouterr().out
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert {row["check"] for row in rows} == {"bandwidth", "cpu against CPU", "labels", "training step"}
    errors = {row["case"]: row["results"] for row in rows if row["check"] == "cpu against CPU"}
    assert set(errors["class1, float64"].values()) == {0.0}
    assert 0.0 < errors["class1, float32"]["error of gradients"] < errors["class1, bf16-mixed"]["error of gradients"]
    assert all(row["results"]["conformers/s"] > 0 for row in rows if row["check"] == "training step")
    monkeypatch.setattr(gpu_check, "LIMITS", {"float64": 1e-9, "float32": 1e-12})
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--minutes", "9", "--device", "cpu"])
    assert gpu_check.main() == 1
    assert "DIFFERS" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--minutes", "0", "--device", "cpu"])
    assert gpu_check.main() == 0
    assert "0 minutes are over" in capsys.readouterr().out
