import pytest

for name in ("samples", "suite", "arrays_suite"):
    pytest.register_assert_rewrite(f"tests.data.readers.{name}")
