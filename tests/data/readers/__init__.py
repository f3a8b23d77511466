import pytest

pytest.register_assert_rewrite("tests.data.readers.suite", "tests.data.readers.arrays_suite")
