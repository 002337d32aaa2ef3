"""The benchmarks without their extra."""

import pytest

from tests.benchmarks import conftest


def test_without_their_extra_the_benchmarks_name_it(monkeypatch):
    monkeypatch.setattr(conftest, "find_spec", lambda name: None)
    with pytest.raises(pytest.UsageError, match=r"pip install -e '.\[benchmarks\]'"):
        conftest.pytest_configure()
