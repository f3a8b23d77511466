"""The tests run against the installed package; continuous integration installs a wheel."""

import os
import sys
from importlib.resources import files
from pathlib import Path

import pytest

import espalike

ROOT = Path(__file__).parents[1]
TREES = {
    "espalike": ROOT / "espalike",
    "espalike.configs": ROOT / "configs",
    "espalike.sample": ROOT / "data" / "sample",
}


def test_source_tree_is_not_on_the_path():
    assert ROOT not in {Path(entry).resolve() for entry in sys.path}


@pytest.mark.skipif("ESPALIKE_WHEEL" not in os.environ, reason="ESPALIKE_WHEEL is not set: an editable install")
def test_package_is_the_wheel():
    assert "site-packages" in Path(espalike.__file__).parts
    assert not Path(espalike.__file__).is_relative_to(ROOT / "espalike")


@pytest.mark.parametrize("package", TREES)
def test_every_file_is_installed(package):
    """A subpackage or a data file that pyproject.toml forgets is missing from the wheel."""
    expected = [path for path in TREES[package].rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert len(expected) > 3
    for path in expected:
        installed = files(package).joinpath(*path.relative_to(TREES[package]).parts)
        assert installed.is_file(), f"{path} is not installed"
        assert installed.read_bytes() == path.read_bytes(), f"{path} differs from the installed file"
