"""Makes the folder the package `tests`: pytest imports this file first, under the name `tests.conftest`.

What is here saves time.
"""

import gc

import pytest


def pytest_collection(session):
    """Imported libraries are a million objects, which the garbage collector would pass again and again."""
    gc.disable()


def pytest_collection_finish(session):
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def composed_once():
    """Hydra composes the settings of a command once more, to look for `hydra.mode`, which no test sets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hydra._internal.hydra.Hydra.get_mode", lambda *_, **__: None)
        yield
