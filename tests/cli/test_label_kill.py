"""A label run killed at any point: it loses the labels in flight, repeats none, and ends at the same store."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from espalike.cli.main import main
from espalike.data.store import Store
from espalike.qm.records import RecordFolder

WORKERS = 2
LABELS = 3 * (8 + 3)  # thermal and distorted frames of three molecules
FOLDER = Path(__file__).parent  # of counting.py


@pytest.fixture(autouse=True)
def _counting(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)


def overrides(folder, out, seconds, scans=False):
    (folder / "some.smi").write_text("CO methanol\nCCO ethanol\nOCC=O glycolaldehyde\n")
    (folder / "scans.csv").write_text("name,dihedral\nethanol,0 1 2 8\nglycolaldehyde,0 1 2 3\n")
    parts = ["thermal.frames=8", "thermal.starts=1", "distort.frames=3", "distort.starts=1"]
    parts += ["scan.spacing=120", f"scan.dihedrals={folder}/scans.csv"] if scans else []
    return [
        *(f"input={folder}/some.smi", f"out={out}", f"workers={WORKERS}", "chunk=3", "calculator=mmff94"),
        *("~calculator.variant", "calculator._target_=counting.CountingCalculator"),
        *(f"+calculator.log={out}.log", f"+calculator.seconds={seconds}", "calculator@sampler.calculator=mmff94"),
        *("sampler=mixed", *(["+sampler@sampler.parts.scan=scan"] if scans else [])),
        *(f"sampler.parts.{part}" for part in parts),
    ]


def command(*settings):
    return [sys.executable, "-m", "espalike.cli.label", *overrides(*settings)]


def start(arguments):
    environment = os.environ | {"PYTHONPATH": str(FOLDER), "OMP_NUM_THREADS": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(arguments, env=environment, start_new_session=True, **quiet)


def labels(out):
    """Every label that is written: part, entry and number of the geometry, with a checksum of its record."""
    found = {}
    for part in {path.parent for path in (out / "labels").rglob("records-*.bin")}:
        for header, place in RecordFolder(part).new():
            for k in header.get("labels", ()):
                key = (part.name, header["entry"], k)
                assert key not in found, "labelled twice"
                found[key] = place.checksum
    return found


def calls(out):
    return Counter(Path(f"{out}.log").read_text().splitlines()) if Path(f"{out}.log").exists() else Counter()


def finish(arguments):
    assert start(arguments).wait(300) == 0


def kill(process, out):
    """Kill the program itself, as the system would, not its workers; they end by themselves."""
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 20
    while alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(process.pid), "workers outlive the program"
    return labels(out)


def alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    states = [path.read_text() for path in Path("/proc").glob("[0-9]*/stat") if path.exists()]
    return any(f" {group} " in state.rpartition(")")[2][:40] and ") Z" not in state for state in states)


def check(out, expected, kills, count):
    store = Store.open(out)
    assert store.hash == expected.hash
    assert store.manifest["conformers"] == count
    assert store.manifest["rejected"] == {}
    counted = calls(out)
    assert len(counted) == count
    assert counted.total() <= count + kills * WORKERS  # begun again: what was in flight, one in each worker


def undisturbed(folder, scans, count):
    """The store of a run that nobody killed, in one worker."""
    out = folder / "undisturbed"
    assert main(["label", *overrides(folder, out, 0.0, scans), "workers=1"]) == 0
    assert calls(out).total() == count
    return Store.open(out)


def test_killed_twice_while_labelling(tmp_path):
    out = tmp_path / "store"
    arguments = command(tmp_path, out, 0.1)
    for least in (3, 16):
        process = start(arguments)
        deadline = time.monotonic() + 120
        while len(labels(out)) < least and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)
        done = kill(process, out)
        assert least <= len(done) < LABELS
        assert not (out / "manifest.json").exists()
    finish(arguments)
    assert {key: labels(out)[key] for key in done} == done
    check(out, undisturbed(tmp_path, False, LABELS), 2, LABELS)
    before, total = labels(out), calls(out).total()
    assert main(["label", *arguments[3:]]) == 0  # nothing left to do
    assert (labels(out), calls(out).total()) == (before, total)
    check(out, Store.open(tmp_path / "undisturbed"), 2, LABELS)


@pytest.mark.slow
def test_killed_at_twenty_random_times(tmp_path):
    """5,000 labels in batches of 16, between 20 kills: the store of an undisturbed run."""
    chance, kills, frames, chunk = random.Random(7), 20, 200, 16
    molecules = [
        smiles
        for n in range(1, 6)
        for smiles in ("C" * n + "O", "C" * n + "N", "C" * n + "S", "N" + "C" * n + "O", "C" * n + "C=O")
    ]
    (tmp_path / "many.smi").write_text("".join(f"{smiles} m{i}\n" for i, smiles in enumerate(molecules)))
    count = frames * len(molecules)

    def settings(out, seconds, workers=WORKERS):
        return [
            *(f"input={tmp_path}/many.smi", f"out={out}", f"workers={workers}", f"chunk={chunk}", "calculator=mmff94"),
            *("~calculator.variant", "calculator._target_=counting.CountingBatches", f"+calculator.log={out}.log"),
            *(f"+calculator.seconds={seconds}", "calculator@sampler.calculator=mmff94", f"sampler.frames={frames}"),
            *("sampler.starts=1", "sampler.interval=6"),
        ]

    undisturbed = tmp_path / "undisturbed"
    assert main(["label", *settings(undisturbed, 0.0, 1)]) == 0
    out = tmp_path / "store"
    arguments = [sys.executable, "-m", "espalike.cli.label", *settings(out, 0.02)]
    done, useful = {}, 0
    for _ in range(kills):
        process = start(arguments)
        deadline = time.monotonic() + 120
        while len(labels(out)) == len(done) and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        time.sleep(chance.uniform(0.0, 1.0))
        now = kill(process, out)
        assert {key: now[key] for key in done} == done
        useful += len(now) > len(done)
        done = now
    assert useful == kills
    assert 0 < len(done) < count
    finish(arguments)
    assert {key: labels(out)[key] for key in done} == done
    store = Store.open(out)
    assert store.hash == Store.open(undisturbed).hash
    assert store.manifest["conformers"] == count
    assert len(calls(out)) == count
    assert calls(out).total() <= count + kills * WORKERS * chunk


@pytest.mark.slow
def test_a_molecule_that_ends_its_process_is_given_up_and_the_others_are_labelled(tmp_path):
    out = tmp_path / "store"
    arguments = [text.replace("CountingCalculator", "DeadlyCalculator") for text in overrides(tmp_path, out, 0.0)]
    assert main(["label", *arguments]) in (0, 1)
    store = Store.open(out)
    assert {record.molecule.name for record in store.records()} == {"methanol", "glycolaldehyde"}
    assert store.manifest["conformers"] == 2 * (8 + 3)
    assert any("process ended" in reason for reason in store.manifest["rejected"])
