"""`espalike evaluate`, `train` and `info` on damaged stores: each ends with status 2 and a message with its name."""

import json
import shutil

import pytest

from espalike.cli.main import main
from espalike.data.shards import manifest_checksum
from espalike.data.store import write_store
from tests.data.conftest import MANIFEST, build_record

COMMANDS = {
    "evaluate": ["evaluate", "data.path={}", "baselines=[mmff94]"],
    "train": ["train", "data.stores=[{}]", "model=tiny", "trainer.max_epochs=1"],
    "info": ["info", "{}"],
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Two stores of three shards each, with other numbers."""
    folder = tmp_path_factory.mktemp("stores")
    for number in (0, 1):
        splits = {"CCO": "train", "CCN": "val", "CC": "test"}
        records = [build_record(s, 3, split=split, seed=number) for s, split in splits.items()]
        write_store(folder / str(number), records, manifest=MANIFEST, shard=1e-4)
    return folder / "0", folder / "1"


def shards(store):
    return sorted(store.glob("*.arrow"))


def flipped(place):
    """A bit of the first shard, so far from its beginning."""

    def change(store, other):
        data = bytearray(shards(store)[0].read_bytes())
        data[int(place * (len(data) - 1))] ^= 4
        shards(store)[0].write_bytes(data)

    return change


def exchanged(store, other):
    first, second, _ = shards(store)
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


FILES = {
    **{f"bit at {place}": flipped(place) for place in (0.0, 0.05, 0.3, 0.6, 0.9, 1.0)},
    "cut short": lambda store, other: shards(store)[0].write_bytes(shards(store)[0].read_bytes()[:-100]),
    "empty": lambda store, other: shards(store)[0].write_bytes(b""),
    "deleted": lambda store, other: shards(store)[0].unlink(),
    "renamed": lambda store, other: shards(store)[0].rename(store / "other.arrow"),
    "of another store": lambda store, other: shutil.copy(shards(other)[0], shards(store)[0]),
    "exchanged": exchanged,
    "another store's manifest": lambda store, other: shutil.copy(other / "manifest.json", store),
    "no manifest": lambda store, other: (store / "manifest.json").unlink(),
    "empty manifest": lambda store, other: (store / "manifest.json").write_text(""),
}
ENTRIES = {
    "format": 2, "entries": 2, "conformers": 8, "molecules": 4, "hash": "0" * 64, "levels": ["PBE/def2-SVP"],
    "splits": {}, "sources": {}, "units": {"energy": "hartree"}, "checksums": {}, "data": ["x.arrow"],
    "rejected": "none", "audits": [{"audit": "forces"}],
}  # fmt: skip
GONE = ("entries", "conformers", "levels", "splits", "sources", "units", "data", "hash")
NOT_KNOWN = ("molecules", "checksums")
"""What a manifest without checksums, as an earlier version wrote, counts by another rule or does not have."""


def refused(store, tmp_path, capsys, change, commands=tuple(COMMANDS)):
    """Change a copy of a store, and see commands refuse it."""
    copy = shutil.copytree(store, tmp_path / "copy")
    change(copy)
    for name in commands:
        command = COMMANDS[name]
        out = [] if name == "info" else [f"out={tmp_path / 'out'}"]
        assert main([*(word.format(copy) for word in command), *out]) == 2, name
        message = capsys.readouterr().err
        assert str(copy) in message, message
        assert not (tmp_path / "out" / "model.espalike").exists()


@pytest.mark.parametrize("name", FILES)
def test_files(stores, tmp_path, capsys, name):
    refused(stores[0], tmp_path, capsys, lambda copy: FILES[name](copy, stores[1]))


def edited(change, seal):
    """Changes a manifest: `plain`, with its checksum made anew (`sealed`), or without any checksums (`without`)."""

    def apply(copy):
        manifest = json.loads((copy / "manifest.json").read_text())
        change(manifest)
        if seal == "sealed":
            manifest["checksum"] = manifest_checksum(manifest)
        if seal == "without":
            manifest = {key: value for key, value in manifest.items() if key not in ("checksum", "checksums")}
        (copy / "manifest.json").write_text(json.dumps(manifest))

    return apply


def commands_for(seal):
    """All for a sealed manifest. They open a store by the same call, so `info`, the fastest, is enough for the rest."""
    return tuple(COMMANDS) if seal == "sealed" else ("info",)


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("seal", ["plain", "sealed", "without"])
def test_other_entries_of_the_manifest(stores, tmp_path, capsys, name, seal):
    if seal == "without" and name in NOT_KNOWN:
        pytest.skip("it is not read")
    if seal == "sealed" and name == "hash":
        pytest.skip("found by `espalike info --verify`: tests/data/test_store.py")
    change = edited(lambda manifest: manifest.update({name: ENTRIES[name]}), seal)
    refused(stores[0], tmp_path, capsys, change, commands_for(seal))


@pytest.mark.parametrize("name", GONE)
@pytest.mark.parametrize("seal", ["sealed", "without"])
def test_missing_entries_of_the_manifest(stores, tmp_path, capsys, name, seal):
    change = edited(lambda manifest: manifest.pop(name), seal)
    refused(stores[0], tmp_path, capsys, change, commands_for(seal))


@pytest.mark.parametrize(
    ("name", "value"), [("rejected", 5), ("rejected", {"a": "b"}), ("audits", "x"), ("audits", [1])]
)
def test_entries_without_a_checksum(stores, tmp_path, capsys, name, value):
    refused(stores[0], tmp_path, capsys, edited(lambda manifest: manifest.update({name: value}), "plain"))


def test_verify_notices_other_rejections(stores, tmp_path, capsys):
    copy = shutil.copytree(stores[0], tmp_path / "copy")
    (copy / "rejected.jsonl").write_text("{}\n")
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["checksums"]["rejected.jsonl"] = "0" * 64
    path.write_text(json.dumps({**manifest, "checksum": manifest_checksum(manifest)}))
    assert main(["info", str(copy)]) == 0
    assert main(["info", "--verify", str(copy)]) == 2
    assert "rejected.jsonl: its SHA-256" in capsys.readouterr().err
