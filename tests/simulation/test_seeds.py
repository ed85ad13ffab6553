"""Rule: whatever is drawn from a seed, the invariant holds at every event, and one seed is one exact run."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from amusd_mp.testing.simulation import run_seed

SEEDS = range(90)
DIGESTS = "from amusd_mp.testing.simulation import run_seed; print(*(run_seed(s).digest for s in range(6)))"


def test_the_invariant_holds_on_the_first_seeds_and_they_see_everything_that_can_happen() -> None:
    outcomes: Counter[str] = Counter()
    for seed in SEEDS:
        run = run_seed(seed)
        assert not run.breach, f"seed {seed}: {run.breach} (amusd-mp simulate --replay {seed})"
        outcomes += run.outcomes
    assert {"whole", "left", "cancelled", "GenerationTimeout", "Busy", "SequenceLost"} <= set(outcomes), outcomes
    assert outcomes["whole"] > sum(outcomes.values()) / 4


def test_one_seed_is_one_exact_run_also_under_other_hash_seeds_and_in_other_processes() -> None:
    here = [run_seed(seed).digest for seed in range(6)]
    assert [run_seed(seed).digest for seed in range(6)] == here
    assert len(set(here)) == len(here)
    for hash_seed in ("0", "4242"):
        there = subprocess.run(
            [sys.executable, "-c", DIGESTS],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        assert there.stdout.split() == here


def test_a_kept_record_changes_nothing() -> None:
    kept = run_seed(3, keep=True)
    assert kept.record
    assert kept.messages == run_seed(3).messages


@pytest.mark.parametrize("seed", [0, 7])
def test_a_replay_tells_the_story_from_what_was_drawn_to_how_it_ended(seed: int) -> None:
    from amusd_mp.testing.simulation import draw
    from amusd_mp.testing.simulation.report import lines

    told = list(lines(draw(seed), run_seed(seed, keep=True)))
    assert told[0].startswith(f"seed {seed}")
    assert told[-1] == "everything held"
    assert any("committed" in line for line in told)
