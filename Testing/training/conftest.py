"""Fixtures of the tests of training."""

from __future__ import annotations

import pytest


@pytest.fixture
def one_thread():
    """Torch computes with one thread: quickest for networks this small, and the same sums every time."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
