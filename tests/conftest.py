"""What every test shares: the same examples on every run, and one device thread.

Hypothesis draws its examples from the test's own name, so a failure repeats; write `max_examples` larger to explore.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before any test imports torch: the suite's timing assumes two cores
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test never waits for a network

settings.register_profile("project", derandomize=True, deadline=None)
settings.load_profile("project")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that hold slow tests: one that comes last keeps one worker busy, and no other."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
