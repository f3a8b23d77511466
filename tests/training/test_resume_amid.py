"""Runs stopped between the batches of one step, or between two validations of one epoch, are resumed as others are."""

import os
import signal

import pytest

from espalike.training.lightning import TrainingModule
from tests.training.test_resume import in_child, killed, store, train, whole

__all__ = ["store", "whole"]
OPTIONS = ("+trainer.accumulate_grad_batches=2", "data.batch_size=1", "data.epoch=entries", "save_every=1")


def stopped(store, out, at, *options):
    """A run that gets SIGTERM when the loss of a batch is computed for the `at`-th time, from 0."""
    step, calls = TrainingModule.training_step, []

    def stop(self, *args):
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGTERM)
        calls.append(1)
        return step(self, *args)

    def run():
        TrainingModule.training_step = stop
        return train(store, out, *options)

    assert in_child(run) == 2


def same(out, other):
    return all((out / name).read_bytes() == (other / name).read_bytes() for name in ("model.espalike", "metrics.csv"))


@pytest.mark.parametrize("at", [4, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 1, 2, 3, 5, 6, 7))])
def test_stopped_between_the_batches_of_a_step(store, whole, tmp_path, at):
    stopped(store, tmp_path, at, *OPTIONS)
    assert in_child(lambda: train(store, tmp_path, *OPTIONS)) == 0
    assert same(tmp_path, whole(*OPTIONS))


@pytest.mark.parametrize("at", [5, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3, 4, 6, 7))])
@pytest.mark.parametrize("stop", [stopped, killed])
def test_stopped_between_two_validations_of_an_epoch(store, whole, tmp_path, at, stop):
    options = (*OPTIONS[1:], "+trainer.val_check_interval=2")
    stop(store, tmp_path, at, *options)
    assert in_child(lambda: train(store, tmp_path, *options)) == 0
    assert same(tmp_path, whole(*options))
