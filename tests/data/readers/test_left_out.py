"""A geometry that cannot be used is left out and counted; the others of its molecule are read."""

import json
import re

import numpy as np
import pytest

from espalike.data.filters import Filters, describe
from espalike.data.readers.extxyz import ExtxyzReader
from espalike.data.readers.forcebalance import ForceBalanceReader
from espalike.data.readers.qcarchive import QCArchiveReader
from espalike.data.readers.sdf import SdfReader
from tests.data.readers import test_extxyz, test_forcebalance, test_qcarchive, test_sdf
from tests.data.readers.samples import sample

METHANOL = sample("CO", 5)


def filtered(entry):
    """What the filters leave of a record, the reasons, and the messages."""
    record, dropped = Filters()(entry)
    return record, dict(dropped), [message for _, message, _ in describe(entry, dropped)]


def without(path, pattern, text="", which=1):
    """Changes one match of a pattern in a file, the one with this number from 0."""
    before = path.read_text()
    match = list(re.finditer(pattern, before))[which]
    path.write_text(before[: match.start()] + match.expand(text) + before[match.end() :])
    return path


@pytest.mark.parametrize(
    ("pattern", "text", "reason"),
    [
        (r" energy=\S+", "", "no energy"),
        (r"(energy=)\S+", r"\1failed", "energy unreadable"),
        (r"(\nO\s+)\S+", r"\1********", "frame unreadable"),  # Fortran's overflow
        (r"(name=)", r"multiplicity=3 \1", "open shell"),
    ],
)
def test_one_frame_of_extended_xyz(tmp_path, pattern, text, reason):
    path = tmp_path / "a.xyz"
    test_extxyz.write(path, [METHANOL])
    (entry,) = ExtxyzReader(without(path, pattern, text), **test_extxyz.OPTIONS)
    record, dropped, (message,) = filtered(entry)
    assert dropped == {f"conformer: {reason}": 1}
    assert message.startswith(f"mol-0: 1 of 5 conformers, {reason}; the first: ")
    np.testing.assert_allclose(record.conformers.energy, np.delete(METHANOL.energy, 1), rtol=1e-9)
    np.testing.assert_allclose(record.conformers.forces, np.delete(METHANOL.forces, 1, axis=0), atol=1e-6)


@pytest.mark.parametrize(("lacking", "left"), [(1, 4), (2, 3), (3, 0)])
def test_frames_without_forces(tmp_path, lacking, left):
    """Where most frames have none, energies alone must be asked for."""
    path = tmp_path / "a.xyz"
    images = test_extxyz.frames(METHANOL, smiles=METHANOL.smiles)
    for atoms in images[:lacking]:
        del atoms.calc.results["forces"]
    test_extxyz.ase.io.write(path, images, format="extxyz")
    (entry,) = ExtxyzReader(path, **test_extxyz.OPTIONS)
    if left:
        record, dropped, _ = filtered(entry)
        assert dropped == {"conformer: forces missing": lacking}
        np.testing.assert_allclose(record.conformers.xyz, METHANOL.xyz[lacking:], atol=1e-6)
    else:
        assert "3 of 5 geometries have no forces; give reader.forces=null" in entry.message
    (entry,) = ExtxyzReader(path, forces=None, **test_extxyz.OPTIONS)
    np.testing.assert_allclose(entry.conformers.energy, METHANOL.energy, rtol=1e-9)


def test_one_record_of_an_sdf(tmp_path):
    path = test_sdf.write(tmp_path / "a.sdf", [METHANOL])
    path = without(path, r">  <Energy \[hartree\]>.*\n.*\n")
    (entry,) = SdfReader(path, **test_sdf.OPTIONS)
    record, dropped, (message,) = filtered(entry)
    assert dropped == {"conformer: data field missing": 1}
    assert "no data field 'Energy [hartree]'" in message
    np.testing.assert_allclose(record.conformers.energy, np.delete(METHANOL.energy, 1), rtol=1e-9)


def test_one_block_of_a_target(tmp_path):
    test_forcebalance.target(tmp_path / "td", METHANOL)
    without(tmp_path / "td" / "qdata.txt", "GRADIENT.*\n")
    (entry,) = ForceBalanceReader(tmp_path, **test_forcebalance.OPTIONS)
    record, dropped, _ = filtered(entry)
    assert dropped == {"conformer: forces not finite": 1}
    np.testing.assert_allclose(record.conformers.energy, np.delete(METHANOL.energy, 1), rtol=1e-9)


@pytest.mark.parametrize("form", ["named", "list", "identifiers"])
@pytest.mark.parametrize("which", [0, 2])
def test_a_failed_single_point(tmp_path, form, which):
    """Those before and after it are one record; one that says no name is an entry of its own."""
    results = [json.loads(test_qcarchive.atomic(METHANOL, k).json()) for k in range(5)]
    failed = {"success": False, "error": {"error_type": "convergence_error", "error_message": "SCF did not converge"}}
    results[which] = failed | ({"id": METHANOL.name} if form == "identifiers" else {})
    for result in results:
        if form == "list":
            result.pop("id", None)
    (tmp_path / "a.json").write_text(json.dumps({METHANOL.name: results} if form == "named" else results))
    reader = QCArchiveReader(tmp_path / "a.json")
    entries = list(reader)
    assert len(reader) == len(entries)
    if form == "list":
        entry = next(entry for entry in entries if not hasattr(entry, "reason"))
        (rejected,) = (entry for entry in entries if hasattr(entry, "reason"))
        assert rejected.reason == "computation failed"
        assert not entry.left_out
    else:
        (entry,) = entries
        assert filtered(entry)[1] == {"conformer: computation failed": 1}
        assert "SCF did not converge" in filtered(entry)[2][0]
    np.testing.assert_allclose(entry.conformers.energy, np.delete(METHANOL.energy, which), rtol=1e-9)
    np.testing.assert_allclose(entry.conformers.xyz, np.delete(METHANOL.xyz, which, axis=0), atol=1e-7)
    assert [e.id for e in reader.entries(1)] == [e.id for e in entries[1:]]


def test_a_point_without_a_gradient(tmp_path):
    results = [json.loads(test_qcarchive.atomic(METHANOL, k).json()) for k in range(5)]
    results[3] |= {"driver": "energy", "return_result": METHANOL.energy[3] / test_qcarchive.HARTREE}
    (tmp_path / "a.json").write_text(json.dumps(results))
    (entry,) = QCArchiveReader(tmp_path / "a.json")
    record, dropped, _ = filtered(entry)
    assert dropped == {"conformer: gradient missing": 1}
    np.testing.assert_allclose(record.conformers.forces, np.delete(METHANOL.forces, 3, axis=0), atol=1e-6)
