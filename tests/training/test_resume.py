"""Runs that are killed and resumed, against runs that are not: bit for bit."""

import os
import pickle
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fsspec.implementations.local import LocalFileOpener
from safetensors.torch import load_file

from espalike.cli.main import main
from espalike.data.store import write_store
from espalike.training.callbacks import History, SaveBestModel
from espalike.training.launch import environment_of
from espalike.training.lightning import TrainingModule
from espalike.training.resume import SaveResumable
from tests.data.conftest import MANIFEST, build_record

STEPS = 9
"""Of a run: three epochs of three."""
OPTIONS = [
    "model.width=8",
    "model.layers=1",
    "model.hidden=8",
    "trainer.enable_progress_bar=false",
    "trainer.max_epochs=3",
    "data.level=HF",
    "data.epoch=conformers",
    "data.conformers=3",
    "data.batch_size=3",
    "ema=0.7",
    "save_every=2",
    "threads=1",
]


def record(smiles, split, level="HF"):
    return build_record(smiles, 5, split=split, level=level)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "s"
    records = [*(record(s, "train") for s in ("O", "CO", "CCO", "CC#N")), record("N", "val")]
    write_store(path, records, manifest=MANIFEST)
    return path


@pytest.fixture(autouse=True)
def every_epoch(monkeypatch):
    """A checkpoint after each epoch, however short."""
    monkeypatch.setattr("espalike.training.resume._SHORT", 0.0)


def train(store, folder, *options):
    """All runs have the same settings, `out` included, since the model's file holds them."""
    os.chdir(folder)
    return main(["train", f"data.stores=[{store}]", "out=.", "resume=auto", *OPTIONS, *options])


def in_child(run):
    """Call `run` in a forked process; what that process ended with, a status or a negative signal."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(300)  # a fork of a process with threads may never end
        status = 70
        try:
            status = run()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed(store, out, at, *options, where=(TrainingModule, "on_before_zero_grad")):
    """A run that gets SIGKILL when the method `where` of training is called for the `at`-th time, from 0."""
    owner, name = where
    method, calls = getattr(owner, name), []

    def kill(*args, **kwargs):
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        calls.append(1)
        return method(*args, **kwargs)

    def run():
        setattr(owner, name, kill)
        return train(store, out, *options)

    assert in_child(run) == -signal.SIGKILL


def equal(a, b):
    """Whether two checkpoints hold the same, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return a == b


PARTS = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers", "callbacks")
"""Of a checkpoint: average, weights, optimizer, learning rate, metrics and the best loss; epoch and step apart."""


def assert_same(out, whole):
    for name in ("model.espalike", "metrics.csv"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    ours, other = (torch.load(folder / "last.ckpt", weights_only=True) for folder in (out, whole))
    assert ours["global_step"] == other["global_step"] == STEPS
    assert ours["epoch"] == other["epoch"]
    for part in PARTS:
        assert equal(ours.get(part), other.get(part)), part


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory):
    """An uninterrupted run for some options."""
    runs = {}

    def of(*options):
        if options not in runs:
            runs[options] = tmp_path_factory.mktemp("whole")
            assert in_child(lambda: train(store, runs[options], *options)) == 0
        return runs[options]

    return of


@pytest.mark.parametrize("at", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 1, 3, 4, 5, 6, 7, 8))])
def test_killed_at_any_step_and_resumed(store, whole, tmp_path, at):
    """Step 2 is the last of its epoch, and the checkpoint before it is amid the epoch."""
    killed(store, tmp_path, at)
    assert in_child(lambda: train(store, tmp_path)) == 0
    assert_same(tmp_path, whole())


PLACES = {
    "behind the optimizer": (TrainingModule, "on_train_batch_end"),
    "validation": (TrainingModule, "on_validation_epoch_end"),
    "model file": (SaveBestModel, "on_validation_end"),
    "end of an epoch": (History, "on_train_epoch_end"),
    "before a checkpoint": (SaveResumable, "_save"),
    "behind a checkpoint": (TrainingModule, "training_step"),
}


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("at", [1, 2])
def test_killed_anywhere_in_a_step(store, whole, tmp_path, place, at):
    killed(store, tmp_path, at, where=PLACES[place])
    assert in_child(lambda: train(store, tmp_path)) == 0
    assert_same(tmp_path, whole())


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ("schedule=plateau", "schedule.patience=0", "optimizer.lr=0.3", "ema=null"),
        ("data.workers=1", "save_every=1"),
        ("save_every=null",),
    ],
    ids=["plateau", "worker", "epochs"],
)
@pytest.mark.parametrize("at", [4, 6])
def test_killed_and_resumed_with_other_settings(store, whole, tmp_path, options, at):
    killed(store, tmp_path, at, *options)
    assert in_child(lambda: train(store, tmp_path, *options)) == 0
    assert_same(tmp_path, whole(*options))


@pytest.mark.slow
def test_killed_again_and_again(store, whole, tmp_path):
    for at in (3, 2, 2):
        killed(store, tmp_path, at)
    assert in_child(lambda: train(store, tmp_path)) == 0
    assert_same(tmp_path, whole())


def test_a_file_that_is_not_written_to_its_end_is_not_the_checkpoint(store, whole, tmp_path):
    """Killed while the bytes of a checkpoint are on their way to the disk: the one before it is still there."""
    killed(store, tmp_path, 2, where=(LocalFileOpener, "write"))
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] < STEPS
    assert in_child(lambda: train(store, tmp_path)) == 0
    assert_same(tmp_path, whole())


@pytest.mark.parametrize(("seconds", "steps"), [(3.0, [0, 6, 9]), (1.0, [0, 3, 6, 9])])
def test_short_epochs_have_no_checkpoint_each(store, tmp_path, monkeypatch, seconds, steps):
    """With a clock by which each epoch of three steps takes two seconds: the last step is always in a checkpoint."""
    saved, step = [], [0]
    save, begin = SaveResumable._save, SaveResumable.on_train_batch_start

    def keep(self, trainer, done):
        saved.append(trainer.global_step)
        save(self, trainer, done)

    def start(self, trainer, *args):
        step[0] = trainer.global_step
        begin(self, trainer, *args)

    monkeypatch.setattr(SaveResumable, "_save", keep)
    monkeypatch.setattr(SaveResumable, "on_train_batch_start", start)
    monkeypatch.setattr("espalike.training.resume.time", SimpleNamespace(monotonic=lambda: step[0] * 2 / 3))
    monkeypatch.setattr("espalike.training.resume._SHORT", seconds)
    assert train(store, tmp_path, "save_every=null") == 0
    assert saved == steps


@pytest.mark.slow
def test_a_finished_run_can_be_made_longer(store, tmp_path):
    """With a learning rate that does not depend on how long training is."""
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    options = ["schedule=constant", "schedule.warmup=0", "ema=0.7"]
    assert in_child(lambda: train(store, tmp_path / "a", *options, "trainer.max_epochs=1")) == 0
    assert in_child(lambda: train(store, tmp_path / "a", *options)) == 0
    assert in_child(lambda: train(store, tmp_path / "b", *options)) == 0
    assert_same(tmp_path / "a", tmp_path / "b")


@pytest.mark.slow
def test_sigterm_loses_no_step(store, whole, tmp_path):
    options = ("save_every=null",)

    def run():
        step = TrainingModule.on_before_zero_grad

        def stop(self, *args):
            if self.global_step == 4:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(self, *args)

        TrainingModule.on_before_zero_grad = stop
        return train(store, tmp_path, *options)

    assert in_child(run) == 2
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 5
    assert in_child(lambda: train(store, tmp_path, *options)) == 0
    assert_same(tmp_path, whole(*options))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_slurm_job_whose_time_is_over_is_requeued_and_goes_on(store, tmp_path, monkeypatch):
    """SLURM's environment of one task, and a `scontrol` that records its arguments."""
    (tmp_path / "bin").mkdir()
    for name in ("scontrol", "srun"):
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/{name}.txt\n')
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    task = {"NTASKS": 1, "NTASKS_PER_NODE": 1, "PROCID": 0, "LOCALID": 0, "NODEID": 0, "NNODES": 1}
    for name, value in {**task, "JOB_ID": 4711, "JOB_NAME": "train", "NODELIST": "127.0.0.1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    options = ("trainer=slurm", "trainer.accelerator=cpu", "trainer.devices=1", "save_every=null")
    (tmp_path / "whole").mkdir(), (tmp_path / "cut").mkdir()
    assert in_child(lambda: train(store, tmp_path / "whole", *options)) == 0

    def run():
        step = TrainingModule.on_before_zero_grad

        def warn(self, *args):
            if self.global_step == 4:
                os.kill(os.getpid(), signal.SIGUSR1)
            return step(self, *args)

        TrainingModule.on_before_zero_grad = warn
        return train(store, tmp_path / "cut", *options)

    assert in_child(run) == 2
    assert (tmp_path / "scontrol.txt").read_text() == "requeue 4711\n"
    assert torch.load(tmp_path / "cut" / "last.ckpt", weights_only=True)["global_step"] == 5
    assert in_child(lambda: train(store, tmp_path / "cut", *options)) == 0
    assert_same(tmp_path / "cut", tmp_path / "whole")


def test_a_process_without_srun_trains_in_a_job_of_several_tasks(store, tmp_path, monkeypatch):
    """A notebook, for instance; it may train in a thread, which cannot handle signals."""
    task = {"NTASKS": 4, "NNODES": 2, "PROCID": 0, "LOCALID": 0, "NODEID": 0, "JOB_ID": 4711, "JOB_NAME": "notebook"}
    for name, value in task.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(train, store, tmp_path, "trainer.max_epochs=1").result() == 0
    assert environment_of({"devices": 2}) == environment_of({"devices": 1, "strategy": "ddp"}) == {}
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")  # started by srun
    assert environment_of({"devices": 1}) == {}


def test_the_model_is_the_moving_average(store, tmp_path):
    def run():
        def keep(self, *args):
            weights = {name: value.clone() for name, value in self.model.state_dict().items()}
            torch.save(weights, f"{self.global_step}.pt")

        TrainingModule.on_train_batch_end = keep
        return train(store, tmp_path, "trainer.max_epochs=1")

    assert in_child(run) == 0
    first, *others = (torch.load(tmp_path / f"{step}.pt", weights_only=True) for step in (1, 2, 3))
    average = first
    for weights in others:
        average = {name: 0.7 * average[name] + 0.3 * value for name, value in weights.items()}
    model = load_file(tmp_path / "model.espalike")
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)["current_model_state"]
    assert any((value != model[name]).any() for name, value in others[-1].items())
    for name, value in average.items():
        torch.testing.assert_close(model[name], value)
        assert torch.equal(last[f"model.{name}"], others[-1][name])  # training goes on from the weights themselves


def test_bad_settings_of_checkpoints_are_refused(store, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert train(store, tmp_path, "save_every=0") == 2
    assert "expected a number, 1 or more" in capfd.readouterr().err
    assert train(store, tmp_path, "resume=maybe") == 2
    assert "expected true, false, or auto" in capfd.readouterr().err


def test_a_resumed_run_lists_changed_settings(store, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert train(store, tmp_path, "trainer.max_epochs=1") == 0
    capfd.readouterr()
    assert train(store, tmp_path, "optimizer.lr=1", "ema=null", "objective.forces=2") == 2
    printed = capfd.readouterr().err
    assert "these settings differ: ema: None (was 0.7); optimizer.lr: 1 (was 0.002). Leave them as they were" in printed
    assert "forces: 1.0" in (tmp_path / "config.yaml").read_text()  # of the run that is there
    assert train(store, tmp_path, "objective.forces=2", "trainer.max_epochs=2") == 0
    printed = capfd.readouterr().out
    assert "with other settings: objective.forces: 2 (was 1.0); trainer.max_epochs: 2 (was 1)\n" in printed
    assert train(store, tmp_path, "objective.forces=2", "trainer.max_epochs=2") == 0
    assert "other settings" not in capfd.readouterr().out


def test_a_run_that_started_from_another_model_of_the_same_name_is_not_resumed(store, tmp_path, monkeypatch, capfd):
    """What is frozen would be folded into the labels by the new file, and computed by the weights of the old one."""
    models = []
    for seed in (1, 2):
        folder = tmp_path / f"start-{seed}"
        folder.mkdir()
        assert train(store, folder, "trainer.max_epochs=1", f"seed={seed}") == 0
        models.append((folder / "model.espalike").read_bytes())
    start, run = tmp_path / "start.espalike", tmp_path / "run"
    run.mkdir()
    options = [f"start={start}", "freeze=[encoder,pair]", f"data.labels_dir={tmp_path}/folded"]
    for content, epochs, status in ((models[0], 1, 0), (models[1], 2, 2), (models[0], 2, 0)):
        start.write_bytes(content)
        capfd.readouterr()
        assert train(store, run, *options, f"trainer.max_epochs={epochs}") == status
        assert ("the file of start= has changed since" in capfd.readouterr().err) == (status == 2)


def test_a_resumed_run_says_which_data_have_changed(tmp_path, monkeypatch, capfd):
    records = [*(record(s, "train") for s in ("O", "CO", "CC")), record("N", "val")]
    (tmp_path / "run").mkdir()
    for part, epochs, changed in ((records[1:], 1, False), (records[1:], 2, False), (records, 3, True)):
        write_store(tmp_path / "data", part, manifest=MANIFEST)
        capfd.readouterr()
        assert train(tmp_path / "data", tmp_path / "run", f"trainer.max_epochs={epochs}") == 0
        assert ("with other data: data\n" in capfd.readouterr().out) == changed


def test_data_of_another_level_is_for_another_run(store, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert train(store, tmp_path, "trainer.max_epochs=1") == 0
    write_store(tmp_path / "mp2", [record("CN", "train", "MP2"), record("CF", "val", "MP2")], manifest=MANIFEST)
    assert train(f"{store},{tmp_path / 'mp2'}", tmp_path) == 2
    assert "levels of theory HF, the data HF, MP2: give the same" in capfd.readouterr().err


def test_damaged_checkpoints_are_refused(store, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert train(store, tmp_path, "trainer.max_epochs=1") == 0
    whole = (tmp_path / "last.ckpt").read_bytes()
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other")
    damaged = [whole[: len(whole) // 2], b"", b"not a checkpoint", pickle.dumps(print, 2)]
    for content in [*damaged, (tmp_path / "other").read_bytes()]:
        (tmp_path / "last.ckpt").write_bytes(content)
        assert train(store, tmp_path) == 2
        printed = capfd.readouterr().err
        assert printed.startswith("error: last.ckpt ")
        assert "start" in printed
        assert printed.count("\n") == 1


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_checkpoint_that_cannot_be_written_costs_none(tmp_path, fault):
    """The one that is there stays, whatever happens while the next one is written."""

    class Trainer:
        current_epoch, global_step, is_global_zero = 3, 30, True

        def save_checkpoint(self, path, weights_only):
            Path(path).write_bytes(b"half of it")
            if self.fault is not None:
                raise self.fault

    path, trainer = tmp_path / "last.ckpt", Trainer()
    path.write_bytes(b"whole")
    save = SaveResumable(path, None)
    trainer.fault = fault
    with pytest.raises(type(fault), match=r"last\.ckpt" if isinstance(fault, OSError) else None):
        save._save(trainer, 0)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("last.ckpt", b"whole")]
    trainer.fault = None
    save._save(trainer, 0)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("last.ckpt", b"half of it")]
