"""`espalike train` from a store to a model file, as a user runs it."""

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml

import espalike
from espalike import files
from espalike.chem import connectivity_key, embed, from_smiles
from espalike.chem.conformers import Conformers
from espalike.cli.main import main
from espalike.data.schema import Record
from espalike.data.store import write_store
from espalike.model import describe, load
from espalike.qm.mmff import MMFFCalculator
from espalike.training.run import TrainedRun

TRAIN, VAL = ["CCO", "CC(=O)N", "c1ccncc1", "CC#N", "CS"], ["CCN", "CC=O"]
SMALL = [
    "model.width=16",
    "model.layers=2",
    "model.hidden=16",
    "trainer.enable_progress_bar=false",
    "data.level=MMFF94",
]


def rows_with(folder, column):
    """Rows of `metrics.csv` that have a value in a column."""
    with open(folder / "metrics.csv", newline="") as file:
        return [row for row in csv.DictReader(file) if row[column]]


def record(smiles, split, level="MMFF94"):
    """An entry with MMFF94 labels on shaken geometries."""
    molecule, rng, label = from_smiles(smiles, smiles), np.random.default_rng(0), MMFFCalculator()
    xyz = embed(molecule, 4, seed=0)
    xyz = xyz + 0.03 * rng.standard_normal(xyz.shape)
    energy, forces = zip(*(label(molecule, x) for x in xyz), strict=True)
    conformers = Conformers(xyz, np.array(energy), np.array(forces), level, f"made-{level}")
    return Record(f"{smiles}-{level}", molecule, conformers, split, connectivity_key(molecule))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "mmff"
    records = [record(s, "train") for s in TRAIN] + [record(s, "val") for s in VAL]
    write_store(path, records, manifest={"licence": "CC0", "origin": "test", "command": "test"})
    return path


def train(store, out, *overrides):
    return main(["train", f"data.stores=[{store}]", f"out={out}", "trainer.max_epochs=2", *SMALL, *overrides])


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    assert train(store, out) == 0
    return out


def test_writes_a_model_that_loads_and_parametrizes(trained):
    model = load(trained / "model.espalike")
    system = model.parametrize(from_smiles("CCC=O"))
    assert {b.term.name for b in system.terms} >= {"HarmonicBond", "Coulomb"}
    assert yaml.safe_load((trained / "config.yaml").read_text())["model"]["width"] == 16
    assert [row["epoch"] for row in rows_with(trained, "val/loss")] == ["0", "1"]


def test_the_file_says_where_the_model_comes_from(trained, store):
    from espalike.data.store import Store

    header = describe(trained / "model.espalike")
    assert header["data"][0]["hash"] == Store.open(store).hash
    assert header["units"]["energy"] == "kcal/mol"
    assert header["split"]["train"] == sorted(connectivity_key(from_smiles(s)) for s in TRAIN)
    assert header["split"]["val"] == sorted(connectivity_key(from_smiles(s)) for s in VAL)
    assert header["notes"]["training"]["seed"] == 0
    assert 16 in header["domain"]["elements"]
    assert 17 not in header["domain"]["elements"]


def test_training_lowers_the_loss(store, tmp_path):
    assert train(store, tmp_path, "trainer.max_epochs=20", "data.batch_size=2", "optimizer.lr=1e-2") == 0
    losses = [float(row["train/loss"]) for row in rows_with(tmp_path, "train/loss")]
    assert losses[-1] < 0.9 * losses[0]


def test_resume_goes_on_and_keeps_the_history(store, tmp_path):
    assert train(store, tmp_path) == 0
    assert train(store, tmp_path, "trainer.max_epochs=4", "resume=true") == 0
    assert [row["epoch"] for row in rows_with(tmp_path, "val/loss")] == ["0", "1", "2", "3"]


def test_a_stopped_run_exits_with_an_error(store, tmp_path, monkeypatch, capfd):
    import pytorch_lightning as pl

    def stopped(*args, **kwargs):
        raise SystemExit  # Lightning's answer to SIGTERM

    monkeypatch.setattr(pl.Trainer, "fit", stopped)
    assert train(store, tmp_path) == 2
    assert "training was stopped; continue with resume=true" in capfd.readouterr().err


def test_same_seed_same_weights(store, trained, tmp_path):
    assert train(store, tmp_path) == 0
    a, b = (load(folder / "model.espalike").state_dict() for folder in (trained, tmp_path))
    assert all((a[name] == b[name]).all() for name in a)


def test_the_network_in_bfloat16(store, trained, tmp_path):
    assert train(store, tmp_path / "mixed", "trainer.precision=bf16-mixed") == 0
    plain, mixed = (float(rows_with(out, "train/loss")[-1]["train/loss"]) for out in (trained, tmp_path / "mixed"))
    assert mixed != plain
    assert mixed == pytest.approx(plain, rel=0.02)


@pytest.mark.parametrize("conv", ["gin", "gat", "dgl_sage"])
def test_convolutions_are_chosen_in_yaml(store, tmp_path, conv):
    if conv.startswith("dgl"):
        pytest.importorskip("dgl", reason="needs the extra dgl")
    assert train(store, tmp_path, f"conv={conv}", "trainer.max_epochs=1") == 0
    assert load(tmp_path / "model.espalike").parametrize(from_smiles("CCO")).n_mols == 1


def test_another_level_has_its_own_shift_and_none_at_inference(store, tmp_path):
    other = tmp_path / "other"
    write_store(
        other, [record(s, "train", "other") for s in TRAIN], manifest={"licence": "CC0", "origin": "t", "command": "t"}
    )
    assert train(f"{store},{other}", tmp_path / "run") == 0
    model = load(tmp_path / "run" / "model.espalike")
    assert model.levels == ("MMFF94", "other")
    assert any("shift" in name for name in model.state_dict())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.level=CCSD"], "no store holds level of theory 'CCSD'"),
        (["data.stores=[nowhere]"], "nowhere"),
        (["resume=true"], "last.ckpt"),
        (["data.on_leak=ignore"], "expected error or resolve"),
        (["forcefield.term.harmonic_bond._target_=os.system"], "refusing to build 'os.system'"),
        (["optimizer=adamm"], "adamm"),
        (["trainer.max_epochs=-3"], "error: trainer.max_epochs=-3: expected a number, -1 or more"),
        (
            ["trainer.max_epochs=2", "trainer.check_val_every_n_epoch=3"],
            "trainer.check_val_every_n_epoch=2 or less (3 now",
        ),
        (["optimizer.lr=fast"], "error: optimizer.lr=fast: expected a number, 0 or more"),
        (["ensemble=0"], "error: ensemble=0: expected a number, 1 or more"),
        (["model.width=0"], "error: model.width=0: expected a number, 1 or more"),
        (["model.layers=-1"], "error: model.layers=-1: expected a number, 0 or more"),
        (["model.hidden=many"], "error: model.hidden=many: expected a number"),
        (["objective.forces=-1"], "error: objective.forces=-1: expected a number, 0 or more"),
        (["objective.scales.energy=0"], "error: objective.scales.energy=0: losses are divided by it"),
        (
            ["optimizer=adamw", "optimizer.weight_decay=-1"],
            "error: optimizer.weight_decay=-1: expected a number, 0 or more",
        ),
        (["data.batch_size=0"], "error: data.batch_size=0: expected a number, 1 or more"),
        (["data.cache=big"], "error: data.cache=big: expected a number"),
        (["data.workers=-1"], "error: data.workers=-1: expected a number, 0 or more"),
        (["data.epoch=frames"], "error: data.epoch=frames: expected entries or conformers"),
        (["seed=-1"], "error: seed=-1: expected a number, 0 or more"),
        (["optimizer.lr=inf"], "error: optimizer.lr=inf: expected a number, 0 or more"),
        (["trainer.max_epochs=-1"], "error: trainer.max_epochs=-1: the learning rate needs an end"),
        (["trainer.devices=2"], "error: trainer.devices=2: several processes need trainer=ddp"),
        (
            ["trainer.check_val_every_n_epoch=0"],
            "error: trainer.check_val_every_n_epoch=0: expected a number, 1 or more",
        ),
        (
            ["+trainer.limit_val_batches=0"],
            "error: trainer.limit_val_batches=0: without validation no model is written",
        ),
        (["freeze=[pair]"], "error: freeze=['pair']: without start=MODEL, frozen parts keep their random weights"),
        (["convert=true"], "error: convert=true says what is taken from the model"),
        (
            ["data.held_out=false", "data.share=0.5"],
            "error: data.share=0.5 is of the training split, and data.held_out",
        ),
        (["data.share=2"], "error: data.share=2: expected a number, 0 to 1"),
        (
            ["data.share=1e-9"],
            "data.share=1e-09 leaves no molecule; take a larger share",
        ),
        (["data.stores=null"], "error: data.stores is empty; expected names of stores"),
        (["data.stores=[]"], "error: data.stores is empty; expected names of stores"),
        (["out="], "error: out=: expected the name of a folder; the present one is out=."),
        (["out=/dev/null/x"], "error: /dev/null is a file; expected a folder"),
        (["patience=0"], "error: patience=0: expected a number, 1 or more"),
        (["threads=0"], "error: threads=0: expected a number, 1 or more"),
        (["ema=1"], "error: ema=1: expected a number below 1"),
        (["trainer.gradient_clip_val=-1"], "error: trainer.gradient_clip_val=-1: expected a number, 0 or more"),
    ],
)
def test_bad_settings_are_refused_by_name(store, tmp_path, capfd, overrides, message):
    assert train(store, tmp_path, *overrides) == 2
    assert message in capfd.readouterr().err


def test_a_finished_run_is_replaced_only_when_asked_to(store, tmp_path, capfd):
    assert train(store, tmp_path) == 0
    before = (tmp_path / "model.espalike").read_bytes()
    assert train(store, tmp_path, "seed=1") == 2
    printed = capfd.readouterr().err
    assert f"{tmp_path} holds a finished run" in printed
    assert "resume=true" in printed
    assert "overwrite=true" in printed
    assert (tmp_path / "model.espalike").read_bytes() == before
    assert train(store, tmp_path, "seed=1", "overwrite=true", "diagnosis=false", "trainer.max_epochs=1") == 0
    assert (tmp_path / "model.espalike").read_bytes() != before
    assert not (tmp_path / "worst.csv").exists()  # of the run that was replaced
    assert [row["epoch"] for row in rows_with(tmp_path, "val/loss")] == ["0"]
    (tmp_path / "last.ckpt").unlink()
    assert train(store, tmp_path) == 2  # a model without its checkpoint is not written over either


def test_an_interrupted_run_may_be_started_anew(store, tmp_path, monkeypatch):
    from espalike.training.lightning import TrainingModule

    step = TrainingModule.training_step

    def fails(self, batch, batch_idx):
        if self.current_epoch == 1:
            raise ValueError("stopped here")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", fails)
        assert train(store, tmp_path) == 2
    assert (tmp_path / "model.espalike").is_file()
    assert train(store, tmp_path) == 0
    assert train(store, tmp_path) == 2


def test_a_model_of_an_earlier_run_is_not_taken_for_the_result(store, tmp_path, capfd):
    (tmp_path / "model.espalike").write_text("of an older run")
    assert train(store, tmp_path, "trainer.max_epochs=0", "overwrite=true") == 2
    assert "no model was written" in capfd.readouterr().err


def test_errors_that_a_source_has_not_are_left_out_at_the_end():
    run = TrainedRun(Path("m"), 3, 9.0, {"a": (1.0, 2.0), "b": (0.5, float("nan"))}, {"c": 0.3})
    errors = "1.00 kcal/mol and 2.00 kcal/mol/Å (a); 0.50 kcal/mol (b); of interaction energies 0.30 kcal/mol (c)"
    assert run.summary == f"best epoch 3: validation errors of energies and forces {errors}"


def test_the_end_says_which_epoch_was_best_and_its_errors(store, tmp_path, capfd):
    assert train(store, tmp_path, "optimizer.lr=0", "trainer.max_epochs=9", "patience=2") == 0
    printed = capfd.readouterr().out
    assert "stopped early after epoch 2: no lower validation loss in patience=2 validations" in printed
    row = rows_with(tmp_path, "val/loss")[0]
    energy, forces = (float(row[f"val/made-MMFF94/{quantity}_rmse"]) for quantity in ("energy", "forces"))
    errors = f"{energy:.2f} kcal/mol and {forces:.2f} kcal/mol/Å (made-MMFF94)"
    assert printed.splitlines()[-1] == f"best epoch 0: validation errors of energies and forces {errors}"
    assert train(store, tmp_path / "whole") == 0
    assert "stopped early" not in capfd.readouterr().out


def test_tensorboard_has_hyperparameters_and_their_figures(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained / "tensorboard")).Reload()
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"optimizer/lr" in content
    lowest = min(float(row["val/loss"]) for row in rows_with(trained, "val/loss"))
    assert events.Scalars("best/loss")[-1].value == pytest.approx(lowest, abs=1e-4)
    assert events.Scalars("best/made-MMFF94/forces_rmse")[-1].value > 0


def test_one_thread_by_default_and_only_while_training(store, tmp_path, monkeypatch):
    import torch

    from espalike.training.lightning import TrainingModule

    step, seen = TrainingModule.training_step, []
    monkeypatch.setattr(
        TrainingModule,
        "training_step",
        lambda self, *batch: seen.append(torch.get_num_threads()) or step(self, *batch),
    )
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for number, settings in enumerate(([], ["threads=null"])):
            assert train(store, tmp_path / str(number), "trainer.max_epochs=1", *settings) == 0
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 2]


def test_from_python(store, tmp_path, capsys):
    settings = [*SMALL, "trainer.max_epochs=1"]
    result = espalike.train(out=tmp_path, overrides=settings, **{"data.stores": [store]})
    assert capsys.readouterr().out.splitlines()[-1].startswith("best epoch 0: validation errors of energies")
    assert result.model == tmp_path / "model.espalike"
    assert (result.epoch, list(result.errors)) == (0, ["made-MMFF94"])
    assert repr(result).startswith(f"TrainedRun({result.model}, best epoch 0: validation errors ")
    assert result.load().parametrize(from_smiles("CCO")).n_mols == 1
    with pytest.raises(ValueError, match="holds a finished run"):
        espalike.train(out=tmp_path, overrides=settings, **{"data.stores": [store]})


def test_leakage_is_an_error_or_resolved(store, tmp_path, capfd):
    leak = tmp_path / "leak"
    write_store(leak, [record("CCO", "test")], manifest={"licence": "CC0", "origin": "t", "command": "t"})
    assert train(f"{store},{leak}", tmp_path / "a") == 2
    assert "CCO" in capfd.readouterr().err
    assert train(f"{store},{leak}", tmp_path / "b", "data.on_leak=resolve") == 0
    assert "train → test" in capfd.readouterr().out
    assert len(describe(tmp_path / "b" / "model.espalike")["split"]["train"]) == len(TRAIN) - 1


@pytest.fixture
def seen(monkeypatch):
    """Geometries of each training step: (epoch, first atom's coordinates of all conformers)."""
    from espalike.training.lightning import TrainingModule

    steps, step = [], TrainingModule.training_step

    def spy(self, batch, batch_idx):
        first = [int((batch.mol == m).nonzero()[0]) for m in range(batch.n_mols)]
        frames = [tuple(batch.xyz[k, first[m]].tolist()) for k, m in batch.mask.nonzero().tolist()]
        steps.append((self.current_epoch, frames))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(TrainingModule, "training_step", spy)
    return steps


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_of_conformers_holds_each_once(store, tmp_path, seen, workers):
    options = ["data.epoch=conformers", "data.conformers=3", "data.batch_size=4", f"data.workers={workers}"]
    assert train(store, tmp_path, *options) == 0
    epochs = [[frames for epoch, frames in seen if epoch == e] for e in range(2)]
    assert [len(steps) for steps in epochs] == [3, 3]  # 5 entries of 4, each in two parts, 4 parts a step
    flat = [[frame for frames in steps for frame in frames] for steps in epochs]
    assert len(flat[0]) == len(set(flat[0])) == 20
    assert sorted(flat[0]) == sorted(flat[1])
    assert flat[0] != flat[1]


def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(store, tmp_path, seen):
    options = ["data.epoch=conformers", "data.conformers=3", "data.batch_size=4"]
    assert train(store, tmp_path / "whole", *options) == 0
    whole = seen.copy()
    seen.clear()
    assert train(store, tmp_path / "cut", *options, "trainer.max_epochs=1") == 0
    assert train(store, tmp_path / "cut", *options, "resume=true") == 0
    assert seen == whole
    assert [epoch for epoch, _ in whole] == [0, 0, 0, 1, 1, 1]


@pytest.mark.slow
def test_processes_of_lightning_share_an_epoch(store, tmp_path, monkeypatch):
    from espalike.training.lightning import TrainingModule

    step = TrainingModule.training_step

    def spy(self, batch, batch_idx):
        first = [int((batch.mol == m).nonzero()[0]) for m in range(batch.n_mols)]
        with open(tmp_path / f"seen-{self.global_rank}", "a") as file:
            for k, m in batch.mask.nonzero().tolist():
                file.write(f"{self.current_epoch} {batch_idx} {batch.xyz[k, first[m]].tolist()}\n")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(TrainingModule, "training_step", spy)
    monkeypatch.setattr("espalike.training.launch.to_start", lambda trainer: 0)  # Lightning forks this process
    options = ["data.epoch=conformers", "data.conformers=3", "data.batch_size=2"]
    assert train(store, tmp_path / "run", *options, "trainer.devices=2", "+trainer.strategy=ddp_fork") == 0
    texts = [(tmp_path / f"seen-{rank}").read_text() for rank in range(2)]
    ranks = [[line.split(" ", 2) for line in text.splitlines()] for text in texts]
    for epoch in "01":
        frames = [[frame for e, _, frame in rows if e == epoch] for rows in ranks]
        assert len(frames[0] + frames[1]) == len({*frames[0], *frames[1]}) == 20
        assert [len({i for e, i, _ in rows if e == epoch}) for rows in ranks] == [3, 3]


def test_two_runs_do_not_train_in_one_folder(store, tmp_path, capsys):
    with files.only_one(tmp_path, "training"):
        assert train(store, tmp_path) == 2
    assert (
        f"{tmp_path}: another training is writing to it; wait for it, or give another out=" in capsys.readouterr().err
    )
    assert not list(tmp_path.iterdir())
