"""What `espalike train` reports: faults, terms, gradients, the worst molecules, a page."""

import csv
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes

from espalike.chem import from_smiles
from espalike.cli.main import main
from espalike.data.dataset import StoreDataset
from espalike.data.store import Store, write_store
from espalike.energy import energy
from espalike.model import load
from espalike.training.report import _histograms
from tests.batches import whole
from tests.cli.test_train import TRAIN, VAL, record, rows_with
from tests.cli.test_train import train as train_on
from tests.test_page import needs_browser, opened

MANIFEST = {"licence": "CC0", "origin": "test", "command": "test"}


def train(store, out, *overrides):
    return train_on(store, out, "data.batch_size=2", *overrides)


def entries():
    return [record(s, "train") for s in TRAIN] + [record(s, "val") for s in VAL]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "mmff"
    write_store(path, entries(), manifest=MANIFEST)
    return path


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    assert train(store, out, "trainer.max_epochs=3", "report=true") == 0
    return out


def spoilt(number, xyz=None, forces=None, energy=None):
    """Entries, one of which has coordinates, forces or energies changed by a function."""
    records = entries()
    conformers = records[number].conformers
    new = {name: getattr(conformers, name).copy() for name in ("xyz", "forces", "energy")}
    for name, change in (("xyz", xyz), ("forces", forces), ("energy", energy)):
        if change is not None:
            change(new[name])
    records[number] = replace(records[number], conformers=replace(conformers, **new))
    return records


def onto(xyz):
    """In the second geometry, the first atom onto the fourth."""
    xyz[1, 0] = xyz[1, 3]


def huge(forces):
    forces[0, 1, 2] = 1e30


@pytest.mark.parametrize(
    ("number", "change", "message"),
    [
        (2, {"xyz": onto}, "training batch {n}: energies of LennardJones, Coulomb are not finite, first for "
         "bad: c1ccncc1-MMFF94: conformer 1, whose nearest atoms, 0 and 3 (counted from 0), are 0 Å apart"),
    ],
)  # fmt: skip
def test_a_fault_is_named_and_the_run_can_go_on_without_it(store, tmp_path, capfd, number, change, message):
    write_store(tmp_path / "bad", spoilt(number, **change), manifest=MANIFEST)
    assert train(tmp_path / "bad", tmp_path / "run") == 2
    printed = re.sub("training batch [0-2]", "training batch {n}", capfd.readouterr().err)
    assert f"epoch 0, {message}" in printed
    assert f"The checkpoint {tmp_path / 'run' / 'last.ckpt'} is from before" in printed
    if "xyz" in change:
        assert train(store, tmp_path / "run", "resume=true") == 0
        assert [row["epoch"] for row in rows_with(tmp_path / "run", "val/loss")] == ["0", "1"]


def far(energy):
    energy[1] += 2e7  # 10^6 eV


@pytest.mark.parametrize(
    ("number", "change", "message"),
    [
        (4, {"forces": huge}, "bad: CS-MMFF94: a force is 1e+30 kcal/mol/Å, the bound is 1e+04"),
        (6, {"forces": huge}, "bad: CC=O-MMFF94: a force is 1e+30"),
        (4, {"energy": far}, "bad: CS-MMFF94: an energy is 2e+07 kcal/mol from the median, the bound is 420"),
    ],
)
def test_labels_that_cannot_be_meant_are_refused_before_training(tmp_path, capfd, number, change, message):
    write_store(tmp_path / "bad", spoilt(number, **change), manifest=MANIFEST)
    assert train(tmp_path / "bad", tmp_path / "run") == 2
    printed = capfd.readouterr().err
    assert "implausible labels in 1 entry, whose loss" in printed
    assert message in printed
    assert not (tmp_path / "run" / "last.ckpt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"xyz": onto}])
def test_a_fault_in_one_of_two_processes_stops_both_and_is_named(tmp_path, capfd, change):
    write_store(tmp_path / "bad", spoilt(2, **change), manifest=MANIFEST)
    ddp = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    assert train(tmp_path / "bad", tmp_path / "run", *ddp) == 2
    printed = capfd.readouterr().err
    name = "c1ccncc1-MMFF94: conformer 1"
    assert printed.count(f"first for bad: {name}") == 2  # each process says it, though one alone saw it
    assert (tmp_path / "run" / "last.ckpt").is_file()


def test_a_weight_that_is_spoilt_stops_the_run_and_leaves_it_as_it_was(store, tmp_path, monkeypatch, capfd):
    from espalike.training.lightning import TrainingModule

    assert train(store, tmp_path / "whole", "trainer.max_epochs=3") == 0
    step = TrainingModule.training_step

    def poisoned(self, batch, batch_idx):
        if (self.current_epoch, batch_idx) == (1, 2):
            with torch.no_grad():
                next(self.model.heads[self.model.heads.names.index("HarmonicAngle")].parameters())[0] = torch.nan
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", poisoned)
        assert train(store, tmp_path / "cut", "trainer.max_epochs=3") == 2
    printed = capfd.readouterr().err
    assert "epoch 1, training batch 2: parameters of HarmonicAngle are not finite, first for mmff: " in printed
    assert "weights that are not finite: heads." in printed
    assert train(store, tmp_path / "cut", "trainer.max_epochs=3", "resume=true") == 0
    one, other = (load(tmp_path / name / "model.espalike").state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    for name in ("metrics.csv", "worst.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


def test_terms_and_heads_are_logged(trained, store):
    rows = rows_with(trained, "val/term/HarmonicBond/energy_rms")
    assert len(rows) == 3
    assert all(float(row["train/grad/encoder"]) > 0 and float(row["train/grad/PeriodicProper"]) > 0 for row in rows)
    model, row = load(trained / "model.espalike"), rows[-1]
    assert model.provenance.notes["epoch"] == 2  # the figures are those of the model that was kept
    batch = whole(StoreDataset([Store.open(store)], "val", ["MMFF94"]))
    with torch.no_grad():
        system = model(batch)
        for bound in system.terms:
            result = energy(replace(system, terms=(bound,)), batch.xyz)
            rms = result.energy.std(0, correction=0).square().mean().sqrt().item()
            assert float(row[f"val/term/{bound.term.name}/energy_rms"]) == pytest.approx(rms, rel=1e-4, abs=1e-6)
            rms = result.forces[[0, 2]].square().mean().sqrt().item()  # two of the four geometries
            assert float(row[f"val/term/{bound.term.name}/forces_rms"]) == pytest.approx(rms, rel=1e-4, abs=1e-6)


def worst(folder):
    with open(folder / "worst.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_the_worst_molecules_are_those_of_the_evaluator(trained, store, tmp_path):
    rows = [row for row in worst(trained) if row["epoch"] == "2"]
    assert {(row["entry"], row["smiles"]) for row in rows} == {
        ("mmff: CCN-MMFF94", "CCN"),
        ("mmff: CC=O-MMFF94", "CC=O"),
    }
    badness = [float(row["energy_rmse"]) ** 2 + (float(row["forces_rmse"]) / 3) ** 2 for row in rows]
    assert badness == sorted(badness, reverse=True)
    assert [row["rank"] for row in rows] == ["1", "2"]
    for row in rows:
        one = tmp_path / row["rank"]
        write_store(one / "s", [record(row["smiles"], "test")], manifest=MANIFEST)
        settings = [f"model={trained / 'model.espalike'}", f"data.path={one / 's'}", "resamples=0", f"out={one}"]
        assert main(["evaluate", *settings]) == 0
        with open(one / "table.csv", newline="") as file:
            (line,) = csv.DictReader(file)
        assert float(row["energy_rmse"]) == pytest.approx(float(line["energy_rmse"]), rel=1e-3)
        assert float(row["forces_rmse"]) == pytest.approx(float(line["force_rmse"]), rel=1e-3)


class Page(HTMLParser):
    """Tags, addresses and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data):
        self.text += data


def test_the_report_stands_alone(trained):
    page = Page((trained / "report.html").read_text(encoding="utf-8"))
    assert not {"link", "iframe"} & set(page.tags)  # the script that sorts tables is in the page
    pictures = []
    for address in page.addresses:
        assert address.startswith("data:image/svg+xml,")
        pictures.append(ElementTree.fromstring(unquote(address.partition(",")[2]).encode()))
    assert len(pictures) == 6  # curves, terms, gradients, two molecules, parameters
    assert all(picture.tag.endswith("svg") for picture in pictures)
    for expected_text in ("mmff: CC=O-MMFF94", "epoch 2, the best", "HarmonicAngle", "batch_size: 2", "Of 5 molecules"):
        assert expected_text in page.text
    (last,) = (row for row in rows_with(trained, "val/loss") if row["epoch"] == "2")
    assert f"{float(last['val/made-MMFF94/energy_rmse']):.3f}" in page.text


@needs_browser
def test_the_report_opens_in_a_browser(trained):
    assert opened(trained / "report.html")[1] == 6


def test_nothing_is_diagnosed_when_it_is_switched_off(store, tmp_path):
    assert train(store, tmp_path, "diagnosis=false", "trainer.max_epochs=1") == 0
    assert not (tmp_path / "worst.csv").exists()
    (header, *_) = (tmp_path / "metrics.csv").read_text().splitlines()
    assert "grad" not in header
    assert "term" not in header


def test_parameters_of_the_report_are_the_models(trained, monkeypatch):
    drawn = []
    monkeypatch.setattr(Axes, "hist", lambda self, values, **_: drawn.append(values))
    molecule, model = from_smiles("CC=O"), load(trained / "model.espalike")
    _histograms(model, [molecule])
    system = model.parametrize(molecule)
    expected = [
        bound.values[:, c] for bound in system.terms for c in range(len(bound.term.params)) if len(bound.values)
    ]
    assert len(drawn) == len(expected)
    for ours, other in zip(drawn, expected, strict=True):
        np.testing.assert_allclose(ours, other.numpy(), rtol=1e-4, atol=1e-5)
