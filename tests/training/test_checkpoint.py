"""Files of a run that were changed before it is resumed: refused by name, or what they cannot spoil goes on."""

import copy
import shutil

import numpy as np
import pytest
import torch

from espalike.modelfile import describe, shipped
from espalike.training import checkpoint
from tests.training.test_resume import equal, store, train

__all__ = ["store"]


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    """A run of one epoch."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert train(store, folder, "trainer.max_epochs=1") == 0
    return folder


def resumed(store, folder, monkeypatch):
    """The status of a run that is continued for another epoch."""
    monkeypatch.chdir(folder)
    return train(store, folder, "trainer.max_epochs=2")


def test_a_changed_bit_of_a_checkpoint_is_noticed(run, tmp_path):
    """torch reads it without a complaint; in Adam's moments nothing would ever tell."""
    content, whole = (run / "last.ckpt").read_bytes(), checkpoint.load(run / "last.ckpt")
    assert whole["global_step"] == 3
    rng, refused = np.random.default_rng(0), 0
    for _ in range(40):
        changed = bytearray(content)
        changed[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        (tmp_path / "odd.ckpt").write_bytes(changed)
        found = checkpoint.load(tmp_path / "odd.ckpt")
        assert found is None or equal(found, whole)
        refused += found is None
    assert refused > 15


def negated(content):
    content["state_dict"] = {name: -value for name, value in content["state_dict"].items()}


CHANGES = {
    "weights": negated,
    "no callbacks": lambda content: content.pop("callbacks"),
    "no average": lambda content: content.pop("averaging_state"),
    "no moments": lambda content: content.update(optimizer_states=[]),
    "another step": lambda content: content.update(global_step=content["global_step"] + 1),
    "other levels": lambda content: content["levels"].append("HF"),
}


def test_other_content_of_a_checkpoint_is_refused(store, run, tmp_path, monkeypatch, capfd):
    folder = shutil.copytree(run, tmp_path / "run")
    content = torch.load(run / "last.ckpt", weights_only=True)
    for change in CHANGES.values():
        changed = copy.deepcopy(content)
        change(changed)
        torch.save(changed, folder / "last.ckpt")
        assert checkpoint.load(folder / "last.ckpt") is None
    assert resumed(store, folder, monkeypatch) == 2
    assert "last.ckpt is damaged, was changed, or is not a checkpoint" in capfd.readouterr().err


def test_weights_of_another_version_are_named(store, run, tmp_path, monkeypatch, capfd):
    folder = shutil.copytree(run, tmp_path / "run")
    content = torch.load(run / "last.ckpt", weights_only=True)
    for part in ("state_dict", "current_model_state"):
        content[part] = {name.replace("encoder.enter", "encoder.first"): w for name, w in content[part].items()}
    del content["sha256"]  # of a version before the hash
    torch.save(content, folder / "last.ckpt")
    assert resumed(store, folder, monkeypatch) == 2
    message = r"weights are not those of this model: model.encoder.enter.weight has shape None, expected (8, "
    assert message in capfd.readouterr().err


def test_a_missing_model_is_written_by_the_next_validation(store, run, tmp_path, monkeypatch, capfd):
    """It was missing for good if no later epoch was better, and the run ended with an error."""
    folder = shutil.copytree(run, tmp_path / "run")
    (folder / "model.espalike").unlink()
    assert resumed(store, folder, monkeypatch) == 0
    assert "model.espalike is missing: it will be the best model of the epochs to come" in capfd.readouterr().out
    assert describe(folder / "model.espalike")["notes"]["epoch"] == 1


@pytest.mark.parametrize("kind", ["another model", "damaged"])
def test_a_model_of_another_run_is_not_reported_as_the_result(store, run, tmp_path, monkeypatch, capfd, kind):
    folder = shutil.copytree(run, tmp_path / "run")
    content, settings = (folder / "model.espalike").read_bytes(), (folder / "config.yaml").read_bytes()
    other = shipped()["espalike-small"].read_bytes() if kind == "another model" else content[:-4] + b"1234"
    (folder / "model.espalike").write_bytes(other)
    assert resumed(store, folder, monkeypatch) == 2
    assert "model.espalike is not the best model of the run of last.ckpt" in capfd.readouterr().err
    assert (folder / "model.espalike").read_bytes() == other
    assert (folder / "config.yaml").read_bytes() == settings
    (folder / "model.espalike").write_bytes(content)
    assert resumed(store, folder, monkeypatch) == 0


@pytest.mark.filterwarnings("ignore:.*it begins anew")
@pytest.mark.parametrize("table", [b"a,b\n1,2\n", b"\xff\xfe"])
def test_a_changed_table_of_worst_molecules_ends_no_training(store, run, tmp_path, monkeypatch, capfd, table):
    folder = shutil.copytree(run, tmp_path / "run")
    (folder / "worst.csv").write_bytes(table)
    assert resumed(store, folder, monkeypatch) == 0
    lines = (folder / "worst.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "1"]
