"""Label records, references in the cache, and XML of OpenMM and OpenFF: refused by name, or what was written."""

import numpy as np
import pytest
from hypothesis import strategies as st

from espalike import export
from espalike.assigners.reference import References
from espalike.chem import embed, from_smiles
from espalike.model import load
from espalike.qm.base import CalculatorError
from espalike.qm.openmm_xml import OpenMMXMLCalculator
from espalike.qm.records import RecordFolder
from tests.fuzz.changes import changed_array, changed_bytes, changed_text
from tests.fuzz.guard import amounts, bounded, explore, files, limited

MOLECULE = from_smiles("CO", "methanol")


@amounts(few=30, share=0.02)
def test_records(tmp_path, examples):
    """Records before the changed one are what they were; no record is another one."""
    folder = tmp_path / "records"
    records = RecordFolder(folder)
    for n in range(3):
        records.append({"n": n}, {"x": np.arange(n + 1.0)})
    records.close()
    path = folder / "records-0.bin"
    content = path.read_bytes()
    ends = [place.offset + place.length for _, place in RecordFolder(folder).new()]

    def check(data: st.DataObject) -> None:
        changed = changed_bytes(data, content)
        path.write_bytes(changed)
        same = next(
            (i for i, (a, b) in enumerate(zip(changed, content, strict=False)) if a != b),
            min(len(changed), len(content)),
        )
        whole = sum(end <= same for end in ends)
        found = []
        try:
            with limited(), bounded():
                for header, place in RecordFolder(folder).new():
                    found.append((header["n"], place.read()["x"].tolist()))
        except ValueError as error:
            assert "records-0.bin" in str(error)
        assert all(values == list(range(n + 1)) for n, values in found)
        assert [n for n, _ in found][:whole] == list(range(whole))

    explore(check, examples)


@amounts(few=20, share=0.01)
def test_cached_references(tmp_path, examples):
    """A cached file is read where its numbers are finite and of the molecule; else they are computed again."""
    pytest.importorskip("openff.toolkit", reason="needs the extra openff")
    references = References(cache=tmp_path)
    path = references.path(MOLECULE)
    path.parent.mkdir(parents=True)
    charge, lj = np.linspace(-0.5, 0.5, 6), np.full((6, 2), 0.5)
    np.savez(path, charge=charge, lj=lj)
    content = path.read_bytes()

    def check(data: st.DataObject) -> None:
        if data.draw(st.booleans()):
            path.write_bytes(changed_bytes(data, content))
        else:
            np.savez(path, charge=changed_array(data, charge), lj=lj)
        with limited(), bounded():
            values = References(cache=tmp_path)._read(MOLECULE)
        if values is not None:
            assert [value.shape for value in values] == [(6,), (6, 2)]
            assert all(value.dtype == np.float64 and np.isfinite(value).all() for value in values)
            assert values[0].sum() == pytest.approx(MOLECULE.net_charge, abs=1e-6)

    explore(check, examples)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A system and a force field of methanol, and their content."""
    folder = tmp_path_factory.mktemp("xml")
    system = load("espalike-small").parametrize(MOLECULE)
    paths = [export.write(system, folder / name) for name in ("a.system.xml", "f.xml", "o.offxml")]
    return {path.name: path.read_bytes() for path in paths}


@amounts(few=15, share=0.02)
@pytest.mark.parametrize("name", ["a.system.xml", "f.xml"])
def test_calculator_of_an_xml(written, tmp_path, name, examples):
    path, xyz = tmp_path / name, embed(MOLECULE)[0]

    def check(data: st.DataObject) -> None:
        path.write_bytes(changed_text(data, written[name]))
        try:
            with limited(), bounded():
                energy, forces = OpenMMXMLCalculator(path)(MOLECULE, xyz)
        except CalculatorError as error:
            assert "methanol" in str(error)
            assert path.stem in str(error)
            return
        except ValueError as error:
            assert name in str(error), error
            return
        assert np.isfinite(energy)
        assert np.isfinite(forces).all()

    explore(check, examples)


def test_an_xml_of_entities_that_grow_is_refused(tmp_path):
    """Each entity is ten of the one before: a gigabyte of text out of a kilobyte."""
    entities = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    path = tmp_path / "f.xml"
    path.write_text(f'<!DOCTYPE x [<!ENTITY a0 "lol">{entities}]><ForceField>&a9;</ForceField>')
    with limited(), bounded(), pytest.raises(ValueError, match=r"f\.xml"):
        OpenMMXMLCalculator(path)
    assert set(files(tmp_path)) == {"f.xml"}
