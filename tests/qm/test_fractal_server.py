"""Labels by way of a real QCFractal server: values, nothing repeated, and everything killed and started again.

Slow: three interpreters start, and each label is a process of its own. To run them, in one process, for one server:

    python -m pytest -p no:xdist -m slow tests/qm/test_fractal_server.py
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from espalike.cli.main import main
from espalike.data.store import Store
from espalike.qm.fractal import QCFractal
from espalike.qm.label_index import index_of
from espalike.qm.qcengine import QCEngineCalculator
from espalike.qm.xtb import XTBCalculator
from espalike.units import BOHR, HARTREE
from tests.qm.fractal_server import SECONDS, Server, missing
from tests.qm.test_fractal import labels_of, tasks_of

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing() or "there")]


@pytest.fixture(scope="module")
def server():
    server = Server()
    try:
        server.start("server", "manager")
        yield server
    finally:
        server.close()


def records_of(server):
    """The server's records by number, each with what was computed of it so far."""
    return {record.id: record for record in server.client().query_singlepoints(include=["compute_history"])}


def computed(record):
    return sum(run.status == "complete" for run in record.compute_history)


def test_values_are_those_of_the_direct_calculator_and_nothing_is_repeated(tmp_path, server):
    from tblite.interface import Calculator

    calculator = XTBCalculator("GFN2-xTB", accuracy=0.01)
    smiles = ("CCO", "CC(=O)[O-]")
    tasks = tasks_of(tmp_path / "a", *smiles, calculator=calculator, frames=2)
    before = len(records_of(server))
    list(QCFractal(server.address, poll=1.0)(tasks))
    for task, labels in zip(tasks, labels_of(tasks), strict=True):
        assert labels.failed == {}
        assert len(labels.energy) == 2
        molecule = task.job.molecule
        for xyz, energy, forces, dipole in zip(labels.xyz, labels.energy, labels.forces, labels.dipole, strict=True):
            ours, theirs = calculator(molecule, xyz), (energy, forces)
            assert theirs[0] == pytest.approx(ours[0], abs=1e-4)
            np.testing.assert_allclose(theirs[1], ours[1], atol=1e-3)  # of up to 100, and in our frame
            engine = Calculator("GFN2-xTB", molecule.numbers, xyz / BOHR, charge=float(molecule.net_charge))
            engine.set("verbosity", 0)
            np.testing.assert_allclose(dipole, engine.singlepoint().get("dipole") * BOHR, atol=2e-3)
    assert tasks[0].directory.programs()[0].startswith("xtb ")
    assert len(records_of(server)) == before + 4

    again = tasks_of(tmp_path / "b", *smiles, calculator=calculator, frames=2)
    list(QCFractal(server.address, poll=1.0)(again))
    records = records_of(server)
    assert len(records) == before + 4
    assert {computed(record) for record in records.values()} == {1}
    for first, second in zip(labels_of(tasks), labels_of(again), strict=True):
        np.testing.assert_array_equal(first.energy, second.energy)
        np.testing.assert_array_equal(first.forces, second.forces)


@pytest.mark.skipif(shutil.which("nwchem") is None, reason="needs nwchem (bash scripts/install_engines.sh)")
def test_forces_of_an_ab_initio_program_are_in_our_frame(tmp_path, server):
    """Hartree–Fock by a program that turns and moves molecules where it is left to itself."""
    from pyscf import gto, scf

    task = tasks_of(tmp_path, "CO", calculator=QCEngineCalculator("nwchem", "hf", "sto-3g"), frames=1)[0]
    list(QCFractal(server.address, poll=1.0)([task]))
    (labels,) = labels_of([task])
    assert labels.failed == {}
    molecule, xyz = task.job.molecule, labels.xyz[0]
    field = scf.RHF(gto.M(atom=list(zip(molecule.numbers.tolist(), xyz, strict=True)), basis="sto-3g", verbose=0))
    field.conv_tol = 1e-11
    assert labels.energy[0] == pytest.approx(field.kernel() * HARTREE, abs=1e-3)
    np.testing.assert_allclose(labels.forces[0], -field.nuc_grad_method().kernel() * HARTREE / BOHR, atol=5e-3)


def test_failures_come_back_with_their_reason_and_are_computed_again_on_request(tmp_path, server):
    unknown = QCEngineCalculator("xtb", "no-such-method")
    task = tasks_of(tmp_path, "O", calculator=unknown, frames=1)[0]
    list(QCFractal(server.address, poll=1.0)([task]))
    (labels,) = labels_of([task])
    assert sum(labels.failed.values()) == 1
    assert labels.messages[0].startswith("O: xtb no-such-method, record ")
    failed = [record for record in records_of(server).values() if record.status == "error"]
    assert [len(record.compute_history) for record in failed] == [1]
    list(QCFractal(server.address, poll=1.0)(tasks_of(tmp_path, "O", calculator=unknown, frames=1, retry=True)))
    failed = [record for record in records_of(server).values() if record.status == "error"]
    assert [len(record.compute_history) for record in failed] == [2]


def test_database_server_and_manager_killed_in_the_middle(tmp_path, server):
    tasks = tasks_of(tmp_path, "CN", "C=O", calculator=XTBCalculator(), frames=3)
    compute = QCFractal(server.address, poll=1.0, patience=2.0 * SECONDS)
    thread = threading.Thread(target=lambda: list(compute(tasks)), daemon=True)
    thread.start()
    _until(lambda: sum(task.done() for task in tasks) >= 2)
    for name in ("postgres", "server", "manager"):
        server.kill(name)
    finished = {(task.job.name, k) for task in tasks for k in range(3) if _written(task, k)}
    assert 2 <= len(finished) < 6
    before = {(task.job.name, k): _written(task, k) for task in tasks for k in range(3)}
    server.start("postgres", "server", "manager")
    thread.join(2.0 * SECONDS)
    assert not thread.is_alive()
    assert [len(labels.energy) for labels in labels_of(tasks)] == [3, 3]
    assert compute.left == 0
    assert all(
        _written(task, k) == before[task.job.name, k] for task in tasks for k in range(3) if before[task.job.name, k]
    )
    assert {computed(record) for record in records_of(server).values() if record.status == "complete"} == {1}


def test_a_client_killed_at_random_times_loses_and_repeats_nothing(tmp_path, server, capsys):
    (tmp_path / "some.smi").write_text("CF fluoromethane\nCS methanethiol\nO=C=O dioxide\n")
    common = ["calculator=gfn2-xtb", "calculator@sampler.calculator=mmff94", "sampler.frames=3", "sampler.starts=1"]
    common += ["compute=qcfractal", f"compute.address={server.address}", "compute.poll=1", f"input={tmp_path}/some.smi"]
    before = len(records_of(server))
    command = [sys.executable, "-m", "espalike.cli.label", *common, f"out={tmp_path}/killed"]
    rng = np.random.default_rng(11)
    settings = tmp_path / "killed" / "labels" / "settings.json"
    killed = 0
    for _ in range(6):
        with subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL) as process:
            begun = settings.exists()  # by a run before: then this one still has to load
            _until(lambda running=process: running.poll() is not None or settings.exists())
            time.sleep(rng.uniform(2.0, 14.0) if begun else rng.uniform(0.0, 4.0))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                killed += 1
    assert killed >= 2
    assert main(["label", *common, f"out={tmp_path}/killed"]) == 0
    records = records_of(server)
    assert len(records) == before + 9
    assert {computed(record) for record in records.values() if record.status == "complete"} == {1}

    assert main(["label", *common, f"out={tmp_path}/whole"]) == 0
    assert len(records_of(server)) == before + 9
    assert "still being computed" not in capsys.readouterr().err
    ours, whole = Store.open(tmp_path / "killed"), Store.open(tmp_path / "whole")
    assert len(ours) == len(whole) == 6  # each molecule's relaxed and thermal geometries
    assert sum(len(ours.array(i, "energy")) for i in range(6)) == 9
    for i in range(6):
        for column in ("xyz", "energy", "forces", "dipole"):
            np.testing.assert_array_equal(ours.array(i, column), whole.array(i, column))
    assert ours.manifest["program"].startswith("xtb ")


def test_submitted_now_collected_later(tmp_path, server, capsys):
    server.kill("manager")  # so that nothing is computed meanwhile
    arguments = [
        "label",
        "calculator=gfn1-xtb",
        "calculator@sampler.calculator=mmff94",
        "sampler.frames=2",
        "input=CCl",
    ]
    arguments += ["compute=qcfractal", f"compute.address={server.address}", "compute.poll=1", f"out={tmp_path}/out"]
    assert main([*arguments, "compute.wait=false"]) == 0
    assert "2 labels are still being computed" in capsys.readouterr().err
    assert not (tmp_path / "out" / "manifest.json").exists()
    count = len(records_of(server))
    server.start("manager")
    assert main(arguments) == 0
    assert len(records_of(server)) == count
    assert sum(len(record.conformers.energy) for record in Store.open(tmp_path / "out").records()) == 2


def _until(ready) -> None:
    deadline = time.monotonic() + SECONDS
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _written(task, k):
    """Where the label of geometry k lies, or None."""
    index = index_of(task.directory.root)
    index.refresh()
    return index.entry(task.job.name).labels.get(k)
