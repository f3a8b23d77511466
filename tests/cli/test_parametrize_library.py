"""`espalike parametrize` of many molecules: processes, stopped runs, equal molecules."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from espalike import model
from espalike.chem import Entry, from_smiles
from espalike.cli.main import main
from espalike.export import library as library_module
from espalike.export import ligands
from espalike.files import sealed, unsealed
from espalike.workers import WorkerEndedError
from tests.cli.inputs import save_model

SMILES = ["CCO", "CC(=O)[O-]", "c1ccccc1", "CCN", "C1CC1", "CC#N", "CCOC", "CC(C)O", "C[C@H](N)C(=O)O", "OCCO"]


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "m.espalike", trained_on=[*SMILES, "C"])


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A library with an unusable record; five groups of at most three molecules."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ligands, "_MOLECULES", 3)
    lines = [f"{smiles} mol{n}" for n, smiles in enumerate([*SMILES, "C1CC", "CCO", "OCC"])]
    (tmp_path / "library.smi").write_text("\n".join(lines))
    return "library.smi"


def files_of(folder):
    """Texts by name; numbers to ten digits, since the last ones depend on the group that a molecule is in."""
    texts = {path.name: path.read_text() for path in folder.iterdir()}
    return {
        name: re.sub(r"\d*\.\d+(e-\d+)?", lambda number: f"{float(number[0]):.10f}", text).split()
        for name, text in texts.items()
    }


def rows_of(path):
    """Rows of a report and its counts, without what differs between two runs."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    left_out = ("seconds", "files", "summed_charge", "crc32")
    return [{key: value for key, value in row.items() if key not in left_out} for row in rows[1:]]


def run(model_file, *arguments):
    return main(["parametrize", *arguments, "--model", model_file])


def test_processes_write_the_same_files_and_rows(library, model_file, tmp_path, capsys):
    assert run(model_file, library, "--out", "one", "--report", "one.jsonl") == 1
    assert run(model_file, library, "--out", "two", "--report", "two.jsonl", "--jobs", "2") == 1
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    assert rows_of(tmp_path / "one.jsonl") == rows_of(tmp_path / "two.jsonl")
    assert [row.get("name") for row in rows_of(tmp_path / "one.jsonl")][:-1] == [f"mol{n}" for n in range(13)]
    assert rows_of(tmp_path / "one.jsonl")[-1] == {"done": 12, "partial": 0, "failed": 1}
    assert "wrote 36 files of 12 molecules to two, 1 failed" in capsys.readouterr().out


def test_equal_graphs_are_computed_once(library, model_file, monkeypatch):
    seen = []
    parametrize = model.ForceFieldModel.parametrize

    def counted(self, molecules, charges=None):
        seen.extend(molecule.name for molecule in molecules)
        return parametrize(self, molecules, charges)

    monkeypatch.setattr(model.ForceFieldModel, "parametrize", counted)
    assert run(model_file, library, "--out", "one") == 1
    assert seen == [*(f"mol{n}" for n in range(10)), "mol12"]  # mol11 is mol0; mol12 has another order of atoms


@pytest.mark.parametrize("name", ["report.json", "report.jsonl"])
def test_a_stopped_run_goes_on(name, library, model_file, tmp_path, monkeypatch, capsys):
    arguments = [library, "--out", "out", "--report", name]
    assert run(model_file, *arguments) == 1
    expected = json.loads((tmp_path / name).read_text()) if name == "report.json" else rows_of(tmp_path / name)
    lines = "report.json.unfinished" if name == "report.json" else name
    made, report = files_of(tmp_path / "out"), tmp_path / lines

    computed = []
    monkeypatch.setattr(ligands, "write_files", stopped(ligands.write_files, computed, after=7))
    with pytest.raises(KeyboardInterrupt):
        ligands_main(model_file, arguments)
    assert len(computed) == 7
    kept = report.read_bytes()
    assert kept.count(b"\n") == 1 + 6  # settings, two groups of three
    report.write_bytes(kept + b'{"name": "mol6", "sta')  # the kill came in the middle of a line
    (tmp_path / "out" / "mol4.system.xml").unlink()  # what is lost is made again

    computed.clear()
    monkeypatch.setattr(ligands, "write_files", stopped(ligands.write_files.__wrapped__, computed, after=100))
    capsys.readouterr()
    assert run(model_file, *arguments) == 1
    assert f"{lines}: 4 inputs were finished by a run that was stopped; it is continued" in capsys.readouterr().out
    assert computed == [f"mol{n}" for n in (4, 5, 6, 7, 8, 9, 11, 12)]
    assert files_of(tmp_path / "out") == made
    if name == "report.json":
        again = json.loads((tmp_path / name).read_text())
        rows = zip(again.pop("inputs"), expected.pop("inputs"), strict=True)
        assert again == expected
        varied = {"seconds": 0, "summed_charge": 0}
        assert all(a | varied == b | varied for a, b in rows)
        assert not report.exists()
    else:
        assert rows_of(report) == expected


def ligands_main(model_file, arguments):
    """The command without the handler of Ctrl-C."""
    import argparse

    from espalike.cli import parametrize

    parser = argparse.ArgumentParser()
    parametrize.add_arguments(parser)
    args = parser.parse_args([*arguments, "--model", model_file])
    args.debug = False
    return parametrize.run(args)


def stopped(write, computed, after):
    """`write`, which is interrupted after some molecules."""

    def wrapped(system, entry, result, *arguments):
        if len(computed) == after:
            raise KeyboardInterrupt
        computed.append(result.name)
        return write(system, entry, result, *arguments)

    wrapped.__wrapped__ = write
    return wrapped


def test_other_settings_or_inputs_start_over(library, model_file, tmp_path, monkeypatch, capsys):
    arguments = [library, "--out", "out", "--report", "r.jsonl"]
    assert run(model_file, *arguments) == 1
    lines = (tmp_path / "r.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "r.jsonl").write_bytes(b"".join(lines[:-1]))  # as if it had been stopped
    capsys.readouterr()
    assert run(model_file, *arguments, "--residue", "DRG") == 1
    assert "continued" not in capsys.readouterr().out
    assert "DRG" in (tmp_path / "out" / "mol0.pdb").read_text()
    assert run(model_file, *arguments, "--residue", "DRG") == 1  # a finished run is done again
    assert "continued" not in capsys.readouterr().out


def test_files_that_another_run_has_replaced_are_made_again(library, model_file, tmp_path, capsys):
    arguments = [library, "--out", "out", "--report", "r.jsonl"]
    assert run(model_file, *arguments) == 1
    made, lines = files_of(tmp_path / "out"), (tmp_path / "r.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "r.jsonl").write_bytes(b"".join(lines[:-1]))  # as if it had been stopped
    assert run(model_file, library, "--out", "out", "--residue", "DRG") == 1
    assert files_of(tmp_path / "out") != made
    capsys.readouterr()
    assert run(model_file, *arguments) == 1
    assert "continued" not in capsys.readouterr().out
    assert files_of(tmp_path / "out") == made


def test_what_follows_the_counts_of_a_report_is_done_again(library, model_file, tmp_path, monkeypatch, capsys):
    """The second of two reports that were joined, for instance."""
    arguments = [library, "--out", "out", "--report", "r.jsonl"]
    assert run(model_file, *arguments) == 1
    expected, report = rows_of(tmp_path / "r.jsonl"), tmp_path / "r.jsonl"
    report.write_bytes(report.read_bytes() + b'{"name": "mol')
    capsys.readouterr()
    assert run(model_file, *arguments) == 1
    assert "13 inputs were finished by a run that was stopped; it is continued" in capsys.readouterr().out
    assert rows_of(report) == expected


@pytest.mark.slow
def test_a_killed_run_with_processes_goes_on(model_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    chains = ("".join(letters) for letters in itertools.product("CNO", repeat=5))
    (tmp_path / "library.smi").write_text("\n".join(f"C{chain}C m{n}" for n, chain in enumerate(chains)))
    command = [sys.executable, "-m", "espalike", "parametrize", "library.smi", "--model", model_file, "--jobs", "2"]
    command += ["--report", "r.jsonl", "--out", "out"]
    process = subprocess.Popen(command, start_new_session=True)
    while not (tmp_path / "r.jsonl").exists() or (tmp_path / "r.jsonl").read_bytes().count(b"\n") < 40:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = (tmp_path / "r.jsonl").read_bytes().count(b"\n") - 1
    assert run(model_file, *command[4:5], "--jobs", "1", "--report", "r.jsonl", "--out", "out") in (0, 1)
    assert f"{finished} inputs were finished by a run that was stopped" in capsys.readouterr().out
    rows = rows_of(tmp_path / "r.jsonl")
    assert [row["name"] for row in rows[:-1]] == [f"m{n}" for n in range(3**5)]


def test_a_report_leaves_other_reports_alone(library, model_file, tmp_path):
    """The lines of `report.json` are in a file of another name than `report.jsonl`."""
    other = tmp_path / "report.jsonl"
    other.write_text('{"mine": 1}\n')
    assert run(model_file, library, "--out", "out", "--report", "report.json") == 1
    assert other.read_text() == '{"mine": 1}\n'
    assert not (tmp_path / "report.json.unfinished").exists()


class Deadly:
    """Ends the process that reads it."""

    notes = ()

    def __reduce__(self):
        return os._exit, (9,)


def entries(*names):
    return [(name, name, Entry(name, from_smiles("CCO", name)) if name[0] != "d" else Deadly()) for name in names]


@pytest.mark.slow
def test_a_molecule_that_ends_its_process_fails_and_the_others_are_finished(model_file, tmp_path):
    work = library_module.Work(model_file, "model", 9, ligands.Output(tmp_path, ("system",)))
    groups = [entries("a", "b"), entries("c", "d1"), entries("e")]
    done = [result for group in library_module.run(work, model.load(model_file), groups, 2) for result, _ in group]
    assert [result.name for result in done] == ["a", "b", "c", "d1", "e"]
    assert [result.status for result in done] == ["ok", "ok", "ok", "failed", "ok"]
    assert done[3].reason.startswith("the process that worked on it ended: a worker process was killed")
    assert sorted(path.name for path in tmp_path.glob("*.xml")) == [f"{name}.system.xml" for name in "abce"]


@pytest.mark.slow
def test_processes_that_end_again_and_again_stop_the_run(model_file, tmp_path, monkeypatch):
    monkeypatch.setattr(library_module, "_LOST", 1)
    work = library_module.Work(model_file, "model", 9, ligands.Output(tmp_path, ("system",)))
    with pytest.raises(WorkerEndedError, match="so it was with 2 molecules, the last before d2"):
        list(library_module.run(work, model.load(model_file), [entries("d1"), entries("d2")], 2))


def test_a_run_that_its_processes_end_can_be_continued(library, model_file, tmp_path, monkeypatch, capsys):
    run_groups = library_module.run

    def ended(work, network, groups, jobs):
        yield from itertools.islice(run_groups(work, network, groups, jobs), 2)
        raise WorkerEndedError("a worker process was ended")

    arguments = [library, "--out", "out", "--report", "r.jsonl"]
    monkeypatch.setattr(library_module, "run", ended)
    assert run(model_file, *arguments) == 1
    printed = capsys.readouterr()
    assert "wrote 18 files of 6 molecules" in printed.out
    assert "failed: stopped after 6 inputs: a worker process was ended" in printed.err
    monkeypatch.setattr(library_module, "run", run_groups)
    assert run(model_file, *arguments) == 1
    assert "6 inputs were finished by a run that was stopped; it is continued" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["r.json", "r.jsonl"])
def test_two_runs_do_not_write_one_report(name, library, model_file, tmp_path, capsys):
    import fcntl

    lines = tmp_path / ("r.json.unfinished" if name == "r.json" else name)
    with lines.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert run(model_file, library, "--out", "out", "--report", name) == 2
    assert f"{name}: another run writes this report; wait, or give another --report" in capsys.readouterr().err
    assert run(model_file, library, "--out", "out", "--report", name) == 1


def test_a_report_does_not_replace_a_file_that_is_none(library, model_file, tmp_path, capsys):
    (tmp_path / "mine.json").write_text('{"mine": 1}\n')
    assert run(model_file, library, "--out", "out", "--report", "mine.json") == 2
    assert "--report mine.json would replace a file that is not a report" in capsys.readouterr().err
    assert (tmp_path / "mine.json").read_text() == '{"mine": 1}\n'


def test_what_failed_by_a_full_disk_is_tried_again(library, model_file, tmp_path, monkeypatch, capsys):
    arguments = [library, "--out", "out", "--report", "r.jsonl"]
    assert run(model_file, *arguments) == 1
    lines = (tmp_path / "r.jsonl").read_text().splitlines(keepends=True)
    of = f"{json.loads(lines[0])['run']} 3"
    row = unsealed(lines[4], of) | {
        "status": "failed",
        "files": [],
        "reason": "OSError: [Errno 28] No space left on it",
    }
    (tmp_path / "r.jsonl").write_text("".join([*lines[:4], json.dumps(sealed(row, of)) + "\n", *lines[5:8]]))
    capsys.readouterr()
    assert run(model_file, *arguments) == 1
    assert "3 inputs were finished by a run that was stopped" in capsys.readouterr().out
    assert rows_of(tmp_path / "r.jsonl")[-1] == {"done": 12, "partial": 0, "failed": 1}
