"""Rule: a draft that nobody uses rests most of the time, and works again at the first sign of use."""

from __future__ import annotations

from amusd_mp.core.effort import FRESH, ONE_IN, PATIENCE_ROUNDS, Effort, toll


def worked(effort: Effort, rounds: int) -> int:
    """Return in how many of so many rounds in vain it worked."""
    count = 0
    for _ in range(rounds):
        effort.round(used=False)
        count += not effort.resting
    return count


def test_it_works_while_it_is_of_use() -> None:
    effort = Effort()
    for _ in range(5):
        assert worked(effort, PATIENCE_ROUNDS) == PATIENCE_ROUNDS
        effort.round(used=True)


def test_it_rests_after_many_rounds_in_vain_but_for_one_of_a_few() -> None:
    effort = Effort()
    worked(effort, PATIENCE_ROUNDS)
    assert worked(effort, 10 * ONE_IN) == 10
    effort.round(used=True)
    assert worked(effort, PATIENCE_ROUNDS) == PATIENCE_ROUNDS


def test_a_new_sequence_is_given_some_rounds() -> None:
    effort = Effort()
    worked(effort, 20 * PATIENCE_ROUNDS + 1)
    assert effort.resting
    effort.fresh()
    assert worked(effort, FRESH) == FRESH
    assert worked(effort, 10 * ONE_IN) == 10


def test_only_models_that_both_are_on_cpus_are_taken_to_disturb_each_other() -> None:
    assert toll("cpu", "cpu") > 0
    assert toll("cpu", "cuda:0") == toll("cuda:0", "cpu") == toll("cuda:0", "cuda:1") == 0
