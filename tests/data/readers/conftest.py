"""HDF5 files are looked through by another process, which takes 0.2 s: in tests only where that is what may fail."""

import pytest

from espalike.data.readers import walk
from tests.data.readers.suite import DAMAGE, ReaderSuite

ABOUT_FILES = ("test_walk", "test_stored_elsewhere")
INTACT = ReaderSuite.test_records_equal_what_the_library_reads.__name__
"""The test in which an intact file of each format is looked through."""


@pytest.fixture(autouse=True)
def few_walks(request, monkeypatch):
    """Look through damaged files, and one intact file per format."""
    values = request.node.callspec.params.values() if hasattr(request.node, "callspec") else ()
    damaged = any(isinstance(value, str) and value in DAMAGE for value in values)
    if not (damaged or request.node.originalname == INTACT or request.path.stem in ABOUT_FILES):
        monkeypatch.setattr(walk, "fault", lambda path: "")
