"""Sweeps: in this process and in others, by all combinations and by Optuna; their table and exit status."""

import csv
import os
import sys
import types

import numpy as np
import pytest
import yaml

from espalike.cli.main import main

CONFIG = "out: ???\nx: 1.0\ny: 0\nfail: false\n"
EXAMPLE = [
    "experiment=quickstart",
    "model=tiny",
    "trainer.max_epochs=1",
    "trainer.enable_progress_bar=false",
    "threads=1",
]
"""Of a real training, on the embedded data."""


def table(folder):
    with open(folder / "sweep.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def job(monkeypatch, tmp_path):
    """A stand-in for `espalike train` that only computes a number, so that other processes start fast."""

    def run(cfg):
        import os
        from pathlib import Path

        if cfg.fail:
            raise ValueError("the store has no molecules")
        Path(cfg.out).mkdir(parents=True, exist_ok=True)
        (Path(cfg.out) / "value").write_text(f"{(cfg.x - 0.3) ** 2 + cfg.y} {os.getpid()}")
        return 0

    def objective(out):
        from pathlib import Path

        return float((Path(out) / "value").read_text().split()[0])

    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "job.yaml").write_text(CONFIG)
    module = types.ModuleType("espalike.cli.train")
    module.HELP, module.run, module.objective = "Train.", run, objective
    monkeypatch.setitem(sys.modules, "espalike.cli.train", module)
    monkeypatch.chdir(tmp_path)
    return lambda *settings: main(
        ["train", "--config-dir", "conf", "--config-name", "job", "out=a", "--multirun", *settings]
    )


def processes(folder):
    return {path.read_text().split()[1] for path in folder.glob("*/value")}


def test_the_table_ranks_runs_and_names_their_settings(job, tmp_path, capfd):
    assert job("x=0.3,1.3", "y=0,2") == 0
    assert table(tmp_path / "a") == [
        {"rank": "1", "run": "0", "status": "0", "value": "0.0", "out": "a", "x": "0.3", "y": "0"},
        {"rank": "3", "run": "1", "status": "0", "value": "2.0", "out": "a", "x": "0.3", "y": "2"},
        {"rank": "2", "run": "2", "status": "0", "value": "1.0", "out": "a", "x": "1.3", "y": "0"},
        {"rank": "4", "run": "3", "status": "0", "value": "3.0", "out": "a", "x": "1.3", "y": "2"},
    ]
    lines = capfd.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    assert cells == [["1", "0", "0", "0.3", "0"], ["2", "2", "1", "1.3", "0"], ["3", "1", "2", "0.3", "2"],
                     ["4", "3", "3", "1.3", "2"]]  # fmt: skip
    assert job("x=0.3,1.3") == 0
    assert len(table(tmp_path / "a")) == 2  # of this sweep, not of the one before


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::UserWarning")
def test_runs_in_other_processes(job, tmp_path, launcher, capfd):
    plugin = {"joblib": "hydra_joblib_launcher", "submitit_local": "hydra_submitit_launcher"}[launcher]
    pytest.importorskip(f"hydra_plugins.{plugin}", reason="needs the extra sweep")
    assert job("fail=false,true", f"hydra/launcher={launcher}") == 1
    rows = table(tmp_path / "a")
    assert [(row["rank"], row["status"], row["value"]) for row in rows] == [
        ("1", "0", "0.48999999999999994"),
        ("", "2", ""),
    ]
    assert "failed" in capfd.readouterr().out
    assert processes(tmp_path / "a") != {str(os.getpid())}
    assert job("fail=true", "y=0,1", f"hydra/launcher={launcher}") == 2


@pytest.mark.filterwarnings("ignore")
def test_optuna_samples_near_good_values(job, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs the extra sweep")
    sweep = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=25", "hydra.sweeper.sampler.seed=0"]
    assert job(*sweep, "x=interval(-20,20)") == 0
    values = [float(row["value"]) for row in table(tmp_path / "a")]
    assert len(values) == 25
    assert np.median(values[-10:]) < 0.5 * np.median(values[:10])  # the first ten are random
    best = yaml.safe_load((tmp_path / "a" / "optimization_results.yaml").read_text())
    assert best["best_value"] == min(values)


def test_a_missing_plug_in_is_named(job, capfd):
    assert job("hydra/launcher=nowhere") == 2
    assert "pip install 'espalike[sweep]'" in capfd.readouterr().err


def launched(tmp_path, *settings):
    assert main(["train", *EXAMPLE, f"out={tmp_path}", "--multirun", *settings]) == 0
    rows = table(tmp_path)
    for row in rows:
        assert (tmp_path / row["run"] / "model.espalike").is_file()
        with open(tmp_path / row["run"] / "metrics.csv", newline="") as file:
            assert float(row["value"]) == min(float(epoch["val/loss"]) for epoch in csv.DictReader(file))
    return rows


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_training_side_by_side_by_joblib(tmp_path):
    rows = launched(tmp_path, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "optimizer.lr=1e-3,4e-3")
    assert [float(row["optimizer.lr"]) for row in rows] == [1e-3, 4e-3]
    assert rows[0]["value"] != rows[1]["value"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_training_by_submitit(tmp_path):
    """On this machine; `submitit_slurm` differs by who starts the process."""
    rows = launched(tmp_path, "hydra/launcher=submitit_local", "conv=sage,gin")
    assert [row["conv"] for row in rows] == ["sage", "gin"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_training_by_optuna(tmp_path):
    sweep = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=1"]
    rows = launched(tmp_path, *sweep, "optimizer.lr=tag(log,interval(1e-4,1e-2))", "conv=choice(sage,gin)")
    assert len({row["optimizer.lr"] for row in rows}) == 3
