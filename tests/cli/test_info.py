"""`espalike info` and `espalike models`."""

import json

import pytest

from espalike.cli.main import main
from espalike.data.store import write_store
from espalike.model import ChemicalDomain, from_config, shipped
from tests.cli.test_evaluate import CONFIG
from tests.data.conftest import MANIFEST, build_record


@pytest.fixture
def model(tmp_path):
    made = from_config(CONFIG)
    record = build_record("CCO")
    made.provenance.domain = ChemicalDomain.of([record.molecule])
    made.provenance.split = {"train": ["A", "B"], "val": ["C"]}
    made.provenance.data = [{"name": "mine", "hash": "abc"}]
    made.provenance.figures = {"energy_rmse": 1.25}
    path = tmp_path / "x.espalike"
    made.save(path)
    return made, path


def test_store_as_json(tmp_path, capsys):
    records = [build_record("CCO"), build_record("CCC", 6, split="test")]
    store = write_store(tmp_path / "s", records, manifest=MANIFEST, rejected={"unit unknown": 2})
    assert main(["info", str(tmp_path / "s"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["molecules"], found["conformers"], found["rejected"]) == (2, 10, {"unit unknown": 2})
    assert found["units"]["energy"] == "kcal/mol"
    assert found["sources"]["made-up"]["entries"] == 2
    assert found["hash"] == store.hash


def test_store_as_text(tmp_path, capsys):
    write_store(tmp_path / "s", [build_record("CCO")], manifest=MANIFEST)
    assert main(["info", str(tmp_path / "s")]) == 0
    out = capsys.readouterr().out
    assert "molecules: 1" in out
    assert "  energy: kcal/mol" in out


def test_model_as_json(model, capsys):
    made, path = model
    assert main(["info", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "model"
    assert found["parameters"] == sum(p.numel() for p in made.parameters())
    assert found["split"] == {"train": 2, "val": 1}
    assert found["units"]["energy"] == "kcal/mol"
    assert found["config"]["width"] == 8
    assert len(found["sha256"]) == 64


def test_model_as_text(model, capsys):
    assert main(["info", str(model[1])]) == 0
    out = capsys.readouterr().out
    assert "energy_rmse: 1.25" in out
    assert "format_version: 1" in out


def test_models_lists_what_is_shipped(model, monkeypatch, capsys):
    monkeypatch.setattr("espalike.model.shipped", lambda: {"mine": model[1]})
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("mine\n")
    assert "form: HarmonicBond, HarmonicAngle" in out
    assert "elements: H, C, O" in out
    assert "energy_rmse 1.25" in out
    assert main(["models", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mine"]["data"] == ["mine"]


def test_shipped_models_can_be_described(capsys):
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in shipped())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nothing", None, "no file, store or shipped model"),
        ("x.espalike", b"not safetensors", "not an espalike model file"),
        ("data.h5", b"", "espalike ingest reader.path="),
        ("folder/file", b"", "not a store"),
    ],
)
def test_bad_input(tmp_path, capsys, name, content, message):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if content is not None:
        path.write_bytes(content)
    assert main(["info", str(path.parent if "folder" in name else path)]) == 2
    assert message in capsys.readouterr().err
