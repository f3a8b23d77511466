"""`espalike parametrize` among files of the user, files that are read, and files of earlier runs."""

import pytest

from espalike.cli.main import main
from espalike.export import FORMATS
from tests.cli.inputs import geometry, morse_model, save_model


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "m.espalike")


def test_structures_of_the_user_are_kept(model_file, tmp_path, monkeypatch, capfd):
    """Among them the input, where files are written beside it."""
    monkeypatch.chdir(tmp_path)
    text = geometry("CCO", "lig") + geometry("O", "water")
    (tmp_path / "lig.sdf").write_text(text)
    (tmp_path / "water.pdb").write_text("REMARK mine\n")
    for _ in range(2):
        assert main(["parametrize", "lig.sdf", "--model", model_file]) == 0
        err = capfd.readouterr().err
        assert "lig.sdf is kept: it is read" in err
        assert "water.pdb is kept" in err
        assert "lig.pdb" not in err
    assert (tmp_path / "lig.sdf").read_text() == text
    assert (tmp_path / "water.pdb").read_text() == "REMARK mine\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "lig.pdb", "lig.sdf", "lig.system.xml", "water.pdb", "water.sdf", "water.system.xml"
    ]  # fmt: skip


def test_a_note_says_that_another_molecule_had_the_name(model_file, tmp_path, monkeypatch, capfd):
    """Also another geometry of the same one. The same command again, or another model, gives no note."""
    monkeypatch.chdir(tmp_path)
    runs = {"a": "CCO", "b": "CCN"}
    for folder, smiles in runs.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.sdf").write_text(geometry(smiles, "lig"))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "x.sdf").write_text(geometry("CCN", "lig").replace("0.", "1.", 1))
    other = morse_model(tmp_path)
    note = "files of an earlier run for another molecule or geometry of this name were replaced"

    def notes(folder, model=model_file, form="system"):
        assert main(["parametrize", f"{folder}/x.sdf", "--model", model, "--out", "out", "--format", form]) == 0
        return [line for line in capfd.readouterr().err.splitlines() if "earlier run" in line]

    assert notes("a", form="gromacs") == notes("a") == notes("a", other) == []
    (line,) = notes("b")
    assert note in line
    assert line.endswith("; others of that run are left: out/lig.top, out/lig.gro, out/lig.itp")
    assert notes("b") == []
    assert note in notes("c")[0]


OTHERS = (
    "lig.system.xml",
    "lig.xml",
    "lig.offxml",
    "lig.in",
    "lig.gro",
    "lig.top",
    "lig.itp",
    "lig.inpcrd",
    "lig.prmtop",
)


@pytest.mark.parametrize("name", OTHERS)
def test_no_file_of_the_user_is_replaced(model_file, tmp_path, monkeypatch, capfd, name):
    """One rule for all formats; the others are written, and a second run replaces what the first one wrote."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("mine\n")
    options = ["--format", "system,ffxml,offxml,lammps,gromacs,amber", "--model", model_file, "--out", "."]
    (tmp_path / "in.smi").write_text("CCO lig\n")
    for _ in range(2):
        assert main(["parametrize", "in.smi", *options]) == 1
        assert (tmp_path / name).read_text() == "mine\n"
        err = capfd.readouterr().err
        assert f"{name} is kept: it is not a file that espalike wrote; rename it, or give another --out" in err
        assert err.count("is kept") == 1
    mine = {ending for form in FORMATS.values() if name[3:] in form.endings for ending in form.endings}
    expected = {ending for form in FORMATS.values() for ending in form.endings} - mine | {".sdf", ".pdb", name[3:]}
    assert {path.name[3:] for path in tmp_path.glob("lig.*")} == expected


def test_what_is_read_is_not_replaced(model_file, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(["parametrize", "CCO", "--model", model_file]) == 0
    text = (tmp_path / "molecule.sdf").read_text()
    (tmp_path / "molecule.sdf").write_text(text + text)
    capfd.readouterr()
    assert main(["parametrize", "molecule.sdf", "--model", model_file]) == 0
    assert "molecule.sdf is kept: it is read" in capfd.readouterr().err
    assert (tmp_path / "molecule.sdf").read_text() == text + text


def test_files_of_an_earlier_run_are_told_where_this_one_fails(model_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["parametrize", "in.smi", "--format", "system,gromacs", "--model", model_file, "--out", "out"]
    (tmp_path / "in.smi").write_text("CCO lig\n")
    assert main(arguments) == 0
    (tmp_path / "in.smi").write_text("C[Si](C)(C)C lig\n")
    assert main(arguments) == 2
    old = ", ".join(f"out/lig{ending}" for ending in (".system.xml", ".top", ".gro", ".itp", ".sdf", ".pdb"))
    assert f"; of an earlier run: {old}\n" in capsys.readouterr().err
