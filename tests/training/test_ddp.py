"""Two processes against one with the same global batch: gradients to 1e-10 in float64, and the program itself."""

import csv
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from espalike.chem import from_smiles
from espalike.model import from_config, load
from espalike.training.lightning import TrainingModule
from espalike.training.objective import Objective
from espalike.training.processes import Means, n_processes, shared_mean, summed
from tests.batches import collate
from tests.training.common import CONFIG, item

SOURCES = ("a", "b")
COUPLED = {**CONFIG, "terms": [*CONFIG["terms"], {"_target_": "espalike.terms.cross.BondBond"}], "levels": ["A", "B"]}


def items():
    """Entries of very unequal size, levels, sources and labels: some conformers and whole references are missing."""
    ethanol = item("CCO", 7, 1)
    ethanol.energy[2], ethanol.forces[3] = np.nan, np.nan
    water = item("O", 2, 2, ref_charge=np.array([-0.8, 0.4, 0.4]), ref_lj=np.array([[3.2, 0.15], [1, 0], [1, 0]]))
    nitrile = item("CC#N", 3, 3, source=1, level=1, forces=None)
    sodium = item("[Na+]", 1, 4)
    butane = item("CCCC", 5, 5, source=1, energy=np.full(5, np.nan))
    return [ethanol, water, nitrile, sodium, butane]


SHARES = {"uneven": ([0, 1, 2], [3, 4]), "one atom": ([0, 1, 2, 4], [3]), "no references": ([1], [0, 2, 3, 4])}


def module():
    torch.manual_seed(0)
    objective = Objective(sources={"b": {"energy": 0.3, "forces": 2.0}}, torsion=0.5, coupling=0.5)
    return TrainingModule(from_config(COUPLED).double(), objective, torch.optim.Adam, SOURCES)


class Stepped(torch.nn.Module):
    """What Lightning wraps: the module whose forward pass is a training step."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, batch):
        return self.module._step(batch, training=True)[1]


def gradients(chosen, wrap):
    """Loss and gradients of a batch of these entries."""
    ours = Stepped(module())
    every = items()
    wrapped = wrap(ours)  # lives until the gradients are there
    loss = wrapped(collate([every[i] for i in chosen], dtype=torch.float64))
    loss.backward()
    assert all(p.grad is not None for p in ours.parameters())
    return loss.detach(), {name: p.grad for name, p in ours.named_parameters()}


def joined(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)


def process(rank, folder):
    """One of two: its gradients by DDP, for each way to share the entries."""
    joined(rank, folder)
    result = {name: gradients(shares[rank], DistributedDataParallel) for name, shares in SHARES.items()}
    torch.save(result, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore:.*barrier.*")
def test_gradients_of_two_processes_are_those_of_one(tmp_path):
    mp.start_processes(process, (tmp_path,), 2, start_method="fork")
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    loss, whole = gradients([0, 1, 2, 3, 4], lambda module: module)
    assert sum(float(g.abs().sum() > 0) for g in whole.values()) > 0.8 * len(whole)
    for name in SHARES:
        (first, ours), (second, other) = ranks[0][name], ranks[1][name]
        torch.testing.assert_close((first + second) / 2, loss, rtol=1e-12, atol=0)
        largest = max(float(g.abs().max()) for g in whole.values())
        for parameter, expected in whole.items():
            assert torch.equal(ours[parameter], other[parameter])
            torch.testing.assert_close(ours[parameter], expected, rtol=1e-10, atol=1e-10 * min(largest, 1.0))


def mean_process(rank, folder):
    joined(rank, folder)
    values = torch.arange(5.0, dtype=torch.float64)
    where = torch.tensor([[True, True, False, False, False], [True] * 5][rank])
    means = Means()
    means.add({"x": torch.tensor(float(rank)), "y": torch.tensor(2.0)})
    restored = Means()
    restored.restore(means.state())
    restored.add({"x": torch.tensor(4.0), "y": torch.tensor(0.0)})
    means.add({"x": torch.tensor(4.0), "y": torch.tensor(0.0)})
    result = {
        "mean": shared_mean(values, where),
        "none": shared_mean(values, torch.zeros(5, dtype=torch.bool)),
        "sum": summed(values[:2] + rank),
        "n": n_processes(),
        "means": [means.pop(), restored.pop(), means.pop()],
    }
    torch.save(result, folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_sums_and_means_over_processes(tmp_path):
    mp.start_processes(mean_process, (tmp_path,), 2, start_method="fork")
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert float((one["mean"] + two["mean"]) / 2) == pytest.approx((0 + 1 + 0 + 1 + 2 + 3 + 4) / 7, rel=1e-15)
    assert float(one["none"]) == float(two["none"]) == 0.0
    assert one["sum"].tolist() == two["sum"].tolist() == [1.0, 3.0]
    assert one["n"] == two["n"] == 2
    expected = {"x": (0.5 + 4.0) / 2, "y": 1.0}
    assert one["means"] == two["means"] == [expected, expected, {}]


def program(folder, *settings, by=(sys.executable, "-m")):
    command = [*by, "espalike.cli.main", "train", "experiment=quickstart", "model=tiny", "out=run"]
    sizes = ["data.batch_size=16", "data.conformers=3", "trainer.max_epochs=2", "trainer.enable_progress_bar=false"]
    where = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "threads=1"]
    return subprocess.run(
        [*command, *sizes, *where, *settings], cwd=folder, env=os.environ, capture_output=True, text=True
    )


@pytest.mark.slow
def test_espalike_train_in_two_processes(tmp_path):
    done = program(tmp_path, "ema=0.9")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("training and") == done.stdout.count("wrote ") == 1
    with open(tmp_path / "run" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["10", "20"]  # 311 entries, two times 16 per step
    assert (tmp_path / "run" / "model.espalike").is_file()
    more = program(tmp_path, "ema=0.9", "resume=true", "trainer.max_epochs=3")
    assert more.returncode == 0, more.stderr
    failed = program(tmp_path, "data.level=nowhere", "overwrite=true")
    assert failed.returncode == 2
    assert "no store holds level of theory 'nowhere'" in failed.stderr
    assert "one of 2 processes failed" in failed.stderr
    assert (tmp_path / "run" / "model.espalike").is_file()  # nothing is removed before the new run has begun


@pytest.mark.slow
@pytest.mark.parametrize("by", [("-m",), ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m")])
def test_an_ensemble_in_two_processes(tmp_path, by):
    """Started by espalike, and by torchrun as on several machines."""
    done = program(tmp_path, "ensemble=2", "trainer.max_epochs=1", by=(sys.executable, *by))
    assert done.returncode == 0, done.stderr
    assert [done.stdout.count(text) for text in ("member 1 of 2", "member 2 of 2", " of 2 members\n")] == [1, 1, 1]
    models = [load(tmp_path / "run" / name / "model.espalike") for name in ("", "member-1", "member-2")]
    assert [len(model.members) for model in models] == [2, 1, 1]
    ours, one, two = (model.parametrize(from_smiles("CCO")).bound("HarmonicBond").values for model in models)
    assert not torch.equal(one, two)
    with_product = [torch.stack([k, k * r0], 1) for k, r0 in (each.double().T for each in (ours, one, two))]
    torch.testing.assert_close(with_product[0], (with_product[1] + with_product[2]) / 2, rtol=1e-6, atol=1e-9)
