"""`espalike parametrize` of many molecules: processes, stopped runs, equal molecules."""

import itertools
import json
import re
import signal
import subprocess
import sys
import time

import pytest

from espalike import model
from espalike.cli.main import main
from espalike.export import ligands
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
    left_out = ("seconds", "files", "summed_charge")
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
