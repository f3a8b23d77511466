"""What an interpreter and a notebook show of objects: examples of docstrings, and HTML."""

import doctest
from xml.etree import ElementTree

import pytest

from espalike import model, system, tables
from espalike.chem import from_smiles, molecule


@pytest.mark.parametrize("module", [model, molecule, system, tables], ids=lambda module: module.__name__)
def test_the_examples_of_docstrings(module):
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_notebooks_show_tables():
    """Names of molecules are data, not HTML."""
    hostile = from_smiles("C[NH3+]", "<script>")
    head, row = ElementTree.fromstring(hostile._repr_html_())
    assert [cell.text for cell in head] == ["molecule", "formula", "atoms", "bonds", "charge"]
    assert [cell.text for cell in row] == ["<script>", "CH6N", "8", "7", "+1"]
    loaded = model.load()
    parametrized = loaded.parametrize(hostile)
    title, table = ElementTree.fromstring(f"<div>{parametrized._repr_html_()}</div>")
    assert title.text == "MMSystem of <script>, 8 atoms"
    assert [row[0].text for row in table[1:]] == [bound.term.name for bound in parametrized.terms]
    _, table = ElementTree.fromstring(f"<div>{loaded._repr_html_()}</div>")
    assert [cell.text for cell in table[0]] == ["terms", "network", "members", "elements", "net charge"]
    one, other = loaded.members[:2]
    _, table = ElementTree.fromstring(f"<div>{one._repr_html_()}</div>")
    assert [cell.text for cell in table[0]] == ["terms", "network", "elements", "net charge"]
    assert repr(model.Ensemble([one, other])).splitlines()[3] == "members     2"
