"""`espalike info` and `espalike models`."""

import json

import numpy as np
import pytest

from espalike.cli.main import main
from espalike.data.store import write_store
from espalike.model import ChemicalDomain, from_config, shipped
from tests.cli.test_evaluate import CONFIG
from tests.data.conftest import MANIFEST, build_record
from tests.data.test_ingest import write as write_file


@pytest.fixture
def model(tmp_path):
    made = from_config(CONFIG)
    record = build_record("CCO")
    made.provenance.domain = ChemicalDomain.of([record.molecule])
    made.provenance.split = {"train": ["A", "B"], "val": ["C"]}
    source = {"mine": {"entries": 5, "conformers": 50, "levels": ["GFN2-xTB"]}}
    made.provenance.data = [{"name": "store", "hash": "abc", "licence": "MIT", "sources": source}]
    made.provenance.figures = {
        "validation": {"val/loss": 0.5, "val/mine/energy_rmse": 2.75, "val/mine/forces_rmse": 6.125},
        "test": {
            "set": {"molecules": 3, "conformers": 9, "energy_rmse": 1.25, "force_rmse": 4.5},
            "pairs": {"complexes": 4, "points": 20, "mae": 0.75},
        },
    }
    path = tmp_path / "x.espalike"
    made.save(path)
    return made, path


def test_store_as_json(tmp_path, capsys):
    records = [build_record("CCO"), build_record("CCC", 6, split="test")]
    store = write_store(tmp_path / "s", records, manifest=MANIFEST, rejected={"unit unknown": 2})
    assert main(["info", str(tmp_path / "s"), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["molecules"], content["conformers"], content["rejected"]) == (2, 10, {"unit unknown": 2})
    assert content["units"]["energy"] == "kcal/mol"
    assert content["sources"]["made-up"]["entries"] == 2
    assert content["hash"] == store.hash


def test_store_as_text(tmp_path, capsys):
    write_store(tmp_path / "s", [build_record("CCO")], manifest=MANIFEST)
    assert main(["info", str(tmp_path / "s")]) == 0
    out = capsys.readouterr().out
    assert "molecules: 1" in out
    assert "  energy: kcal/mol" in out


def test_verify_compares_every_row(tmp_path, capsys):
    store = write_store(tmp_path / "s", [build_record("CCO"), build_record("CN")], manifest=MANIFEST)
    assert main(["info", str(store.path), "--verify"]) == 0
    assert "all 2 rows have the hash and counts" in capsys.readouterr().out
    path = store.path / store.manifest["data"]
    path.write_bytes(path.read_bytes().replace(b"made-up", b"made-uq"))
    assert main(["info", str(store.path), "--verify"]) == 2
    assert str(path) in capsys.readouterr().err
    assert main(["info", "espalike-small", "--verify"]) == 2
    assert "--verify is about stores" in capsys.readouterr().err


def test_store_says_what_its_columns_hold(tmp_path, capsys):
    records = [build_record("CCO"), build_record("CN", 6, source="other", forces=None, ref_charge=np.zeros(7))]
    write_store(tmp_path / "s", records, manifest=MANIFEST)
    assert main(["info", str(tmp_path / "s"), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["atoms"] == {"min": 7, "median": 8.0, "max": 9}
    assert content["elements"] == ["H", "C", "N", "O"]
    assert content["columns"] == {"forces": 1, "ref_charge": 1}
    energy, forces = records[0].conformers.energy, records[0].conformers.forces
    assert content["spread"]["made-up"]["energy_std"] == pytest.approx(energy.std(), abs=1e-4)
    assert content["spread"]["made-up"]["force_rms"] == pytest.approx(np.sqrt((forces**2).mean()), abs=1e-3)
    assert content["spread"]["other"]["force_rms"] is None
    assert main(["info", str(tmp_path / "s")]) == 0
    out = capsys.readouterr().out
    assert "atoms: 7 to 9 per molecule, median 8" in out
    assert "elements: H, C, N, O" in out


def test_what_was_left_out_can_be_looked_up(tmp_path, capsys):
    source = write_file(tmp_path / "set.h5", 20)
    assert main(["ingest", f"reader.path={source}", f"out={tmp_path / 's'}"]) == 1
    capsys.readouterr()
    store = str(tmp_path / "s")
    assert main(["info", store]) == 0
    out = capsys.readouterr().out
    assert "--rejected [ID] says more" in out
    assert "audit of forces, set, B3LYP-D3BJ/DZVP: passed" in out
    assert "audit of energies, set, B3LYP-D3BJ/DZVP: passed" in out
    assert main(["info", store, "--rejected", "e005"]) == 0
    out = capsys.readouterr().out
    assert "e005: chemistry" in out
    assert "'C1CC' is not a valid SMILES" in out
    assert "e018" not in out
    assert main(["info", store, "--rejected"]) == 0
    out = capsys.readouterr().out
    assert "e005: chemistry" in out
    assert "e018: chemistry" in out
    assert main(["info", store, "--rejected", "e003", "--json"]) == 0
    (line,) = json.loads(capsys.readouterr().out)
    assert (line["id"], line["count"]) == ("e003", 1)
    assert line["reason"] == "conformer: bonds differ from the graph (broken)"
    assert main(["info", store, "--rejected", "e000"]) == 0
    assert "e000: stored as a whole" in capsys.readouterr().err
    assert main(["info", store, "--rejected", "nobody"]) == 1
    assert "nobody: neither stored nor left out" in capsys.readouterr().err
    assert main(["info", "sample", "--rejected"]) == 0
    assert "this store keeps counts only" in capsys.readouterr().out


def test_rejected_is_about_stores(model, capsys):
    assert main(["info", str(model[1]), "--rejected"]) == 2
    assert "is a model; --rejected is about stores" in capsys.readouterr().err


def test_model_as_json(model, capsys):
    made, path = model
    assert main(["info", str(path), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["kind"] == "model"
    assert content["parameters"] == sum(p.numel() for p in made.parameters())
    assert content["split"] == {"train": 2, "val": 1}
    assert content["units"]["energy"] == "kcal/mol"
    assert content["config"]["width"] == 8
    assert content["form"][:2] == ["HarmonicBond", "HarmonicAngle"]
    assert content["elements"] == ["H", "C", "O"]
    assert content["bytes"] == path.stat().st_size
    assert len(content["sha256"]) == 64


def cells(text):
    """Lines of printed tables, spaces between cells as one."""
    return [" ".join(line.split()) for line in text.splitlines()]


def test_model_as_text(model, capsys):
    made, path = model
    assert main(["info", str(path)]) == 0
    lines = cells(capsys.readouterr().out)
    weights = sum(p.numel() for p in made.parameters())
    assert f"size {weights} weights, {path.stat().st_size / 1e6:.3g} MB" in lines
    assert "elements H C O" in lines
    assert "net charge +0 to +0 e" in lines
    assert "connectivities 2 train, 1 val" in lines
    assert "store mine 5 50 GFN2-xTB MIT abc" in lines
    head = lines.index("split data molecules conformers [kcal/mol] [kcal/mol/Å] [kcal/mol]")
    assert lines[head - 1] == "energy RMSE force RMSE interaction MAE"
    assert "validation mine 2.75 6.12" in lines
    assert "test set 3 9 1.25 4.50" in lines
    assert "test pairs 4 20 0.75" in lines


def test_models_lists_what_is_shipped(model, monkeypatch, capsys):
    monkeypatch.setattr("espalike.modelfile.shipped", lambda: {"mine": model[1]})
    assert main(["models"]) == 0
    lines = cells(capsys.readouterr().out)
    assert lines[0] == "mine"
    assert any(line.startswith("functional form HarmonicBond, HarmonicAngle") for line in lines)
    assert "elements H C O" in lines
    assert "mine set 3 9 1.25 4.50" in lines
    assert main(["models", "--json"]) == 0
    both = json.loads(capsys.readouterr().out)["mine"], main(["info", str(model[1]), "--json"])
    assert both == (json.loads(capsys.readouterr().out), 0)


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
