"""What every test shares: the same examples on every run, and one device thread.

Hypothesis draws its examples from the test's own name, so a failure repeats; write `max_examples` larger to explore.
"""

from __future__ import annotations

import os

from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before any test imports torch: the suite's timing assumes two cores
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test never waits for a network

settings.register_profile("project", derandomize=True, deadline=None)
settings.load_profile("project")
