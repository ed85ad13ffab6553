"""The floor that docs/benchmark.md names can be measured by anyone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parents[2] / "docs" / "least_loop.py"


def test_it_reads_windows_and_tells_what_a_round_takes() -> None:
    done = subprocess.run([sys.executable, PROGRAM, "0", "2"], capture_output=True, text=True, timeout=120, check=True)
    found = re.fullmatch(
        r"(\S+) windows and (\S+) ms of a step per round, (\d+) us beside it \(median\)\n", done.stdout
    )
    assert found is not None, done.stdout
    assert float(found[1]) > 0
    assert float(found[2]) > 0
    assert int(found[3]) > 0
