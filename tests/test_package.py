"""Files about the package agree with it."""

import ast
import tomllib
from importlib.resources import files
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_package_is_typed():
    assert (files("espalike") / "py.typed").is_file()


def test_the_citation_has_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_conda_environment_asks_for_the_packages_torch_first():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    packages = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert packages[0] == PROJECT["dependencies"][0]
    extras = packages[1].partition("[")[2].rstrip("]").split(",")
    assert set(extras) <= set(PROJECT["optional-dependencies"])


def test_asserts_state_types_only():
    """`python -O` leaves them out; a condition that calls something would not be computed then."""
    for path in Path(str(files("espalike"))).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assert):
                parts = node.test.values if isinstance(node.test, ast.BoolOp) else [node.test]
                for text in map(ast.unparse, parts):
                    assert text.endswith((" is not None", " is None")) or text.startswith("isinstance("), (path, text)
            if isinstance(node, ast.ExceptHandler):
                assert node.type is None or "AssertionError" not in ast.unparse(node.type), path
