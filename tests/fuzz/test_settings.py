"""Overrides, YAML files and INPUTs as people type them: a status and a message, no traceback, no file outside."""

from pathlib import Path

import pytest
from hypothesis import strategies as st

from espalike.cli.main import main
from tests.data.readers.test_hdf5 import TestHdf5 as Fixture
from tests.fuzz.changes import WORDS, changed_text
from tests.fuzz.guard import amounts, bounded, explore, files, limited

KEYS = [
    "reader", "reader.path", "reader.level", "reader.units", "reader.energies", "out", "split", "seed",
    "fractions.train", "filters.elements", "filters.net_charges", "filters.force_ceiling", "filters.rmsd",
    "filters.duplicates", "audit", "shard", "workers", "reference", "against", "filters", "nothing",
    "reader._target_", "hydra.run.dir", "cache",
]  # fmt: skip
VALUES = [
    *WORDS,
    "hdf5",
    "sdf",
    "",
    "[]",
    "[H,C]",
    "[1,2",
    "{a:1}",
    "${seed}",
    "${nothing}",
    "'x",
    "1,2",
    "-inf",
    "os.system",
]
YAML = (
    b"defaults: [arrays]\nlevel: HF/STO-3G\ncontainer: hdf5\n"
    b"names: { numbers: atomic_numbers, coords: coords, smiles: smiles, energy: energies, forces: forces }\n"
    b"optional: [forces]\nunits: coords bohr; energies hartree; forces hartree/bohr\n"
)
Fixture.__test__ = False


def outcome(arguments: list[str], folder: Path, capsys) -> tuple[int, str]:
    """Status and messages of a command; files appear in its `out` alone."""
    before = files(folder)
    with limited(30.0), bounded():
        status = main(arguments)
    printed = capsys.readouterr()
    assert status in (0, 1, 2), status
    assert "Traceback" not in printed.err, printed.err
    assert "(--debug shows where)" not in printed.err, printed.err
    assert status or "error:" not in printed.err
    assert status != 2 or printed.err.strip(), printed.out
    new = {name for name in files(folder) if name not in before}
    assert all(name.startswith("out") for name in new), new
    return status, printed.err


@pytest.fixture
def set_of(tmp_path, monkeypatch):
    """A data set in the working folder."""
    monkeypatch.chdir(tmp_path)
    suite = Fixture()
    suite.write(tmp_path / "set.h5", suite.samples())
    return tmp_path


@amounts(few=10, share=0.01)
def test_overrides(set_of, capsys, examples):
    def check(data: st.DataObject) -> None:
        key, value = data.draw(st.sampled_from(KEYS)), data.draw(st.sampled_from(VALUES))
        if key in ("out", "cache"):
            return  # another folder, as it was asked for
        given = [
            "reader=hdf5",
            "reader.path=set.h5",
            f"out=out{data.draw(st.integers(0, 10**9))}",
            "origin=x",
            "licence=y",
        ]
        given = [argument for argument in given if not argument.startswith(f"{key}=")]
        mark = data.draw(st.sampled_from(["", "", "", "+", "~", "++"]))
        status, message = outcome(["ingest", *given, f"{mark}{key}={value}"], set_of, capsys)
        resolved = str(Path.home()) if "HOME" in value else value[:20]
        named = [key.partition(".")[0], key.rpartition(".")[2], resolved, "set.h5"]
        assert status < 2 or any(name in message for name in named), message

    explore(check, examples)


@amounts(few=6, share=0.01)
def test_a_layout_in_yaml(set_of, capsys, examples):
    path = set_of / "conf" / "reader" / "own.yaml"
    path.parent.mkdir(parents=True)

    def check(data: st.DataObject) -> None:
        path.write_bytes(changed_text(data, YAML))
        out = f"out={set_of / 'out'}{data.draw(st.integers(0, 10**9))}"
        given = ["reader=own", "reader.path=set.h5", out, "origin=x", "licence=y", "audit=warn"]
        outcome(["ingest", "--config-dir", str(set_of / "conf"), *given], set_of, capsys)

    explore(check, examples)


@amounts(few=6, share=0.01)
def test_typed_inputs(set_of, capsys, examples):
    """What is typed for a molecule, a model, charges, a residue: words of all kinds."""
    (set_of / "x.smi").write_text("CO methanol\n")
    words = [*WORDS, "CO", "C" * 5000, "x.smi", ".", "/dev/null", "set.h5", "..", "C\n", "[CH3+]", "C" + "(C)" * 5]

    def check(data: st.DataObject) -> None:
        given = {
            "INPUT": "x.smi",
            "--model": "espalike-small",
            "--charges": "model",
            "--residue": "LIG",
            "--smiles": None,
        }
        option = data.draw(st.sampled_from(sorted(given)))
        given[option] = data.draw(st.sampled_from(words))
        text = given.pop("INPUT")
        options = [f"{name}={value}" for name, value in given.items() if value is not None]
        status, message = outcome(["parametrize", *options, "--out=out", "--", text], set_of, capsys)
        assert status == 0 or message.strip()

    explore(check, examples)
