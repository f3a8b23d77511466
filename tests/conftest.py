"""Makes the folder the package `tests`: pytest imports this file first, under the name `tests.conftest`."""
