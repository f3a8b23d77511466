"""How levels of theory are spelt."""

import pytest

from espalike.data.readers.qcschema import level_of


@pytest.mark.parametrize(
    ("method", "basis", "keywords", "level"),
    [
        ("b3lyp-d3bj", "dzvp", {}, "B3LYP-D3BJ/DZVP"),
        ("B3LYP", "DZVP", {"dispersion": "d3bj"}, "B3LYP-D3BJ/DZVP"),
        ("b3lyp-d3bj", "dzvp", {"dispersion": "d3bj"}, "B3LYP-D3BJ/DZVP"),
        ("wb97m-d3bj", "def2-tzvppd", {}, "wB97M-D3BJ/def2-TZVPPD"),
        ("mp2", "aug-cc-pvtz", {}, "MP2/aug-cc-pVTZ"),
        ("hf", "6-31g*", {}, "HF/6-31G*"),
        ("gfn2-xtb", None, {"accuracy": 1.0}, "GFN2-xTB"),
        ("pbe0", "def2-svp", {"pcm": True}, "PBE0/def2-SVP+PCM"),
        ("ccsd(t)", {"name": "cc-pvdz", "center_data": {}}, {}, "CCSD(T)/cc-pVDZ"),
        ("", "dzvp", {}, ""),
    ],
)
def test_spelling_of_levels(method, basis, keywords, level):
    assert level_of({"method": method, "basis": basis}, keywords) == level
