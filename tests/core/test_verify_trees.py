"""What stands beside the chain is scored with it, and committed where the verify model takes that way."""

from __future__ import annotations

from dataclasses import replace

from verifying import answer, origins, started

from amusd_mp.core.messages import Draft, Finish, Window
from amusd_mp.core.params import Strategy
from amusd_mp.core.step import Picked, StepResult
from amusd_mp.core.verify_sequence import VerifySequence


def guess_beside(sequence: VerifySequence) -> Draft:
    """A chain 11 12 with 21 beside its first token and 22 beside its second, and the draft is sure of none."""
    window = Window(
        sequence.name, sequence.version, sequence.length, (11, 12, 21, 22), (-1, 0, -1, 0),
        confidence=(50, 50, 45, 45), drafted=2,
    )  # fmt: skip
    return Draft("v", (window,))


def test_a_token_beside_the_chain_brings_the_next_one_along() -> None:
    core, sequence = started()
    core.propose("d", 1, guess_beside(sequence), now=0)
    step = core.plan(0.0)
    assert step is not None
    block = step.blocks[0]
    assert (block.tokens, block.parents, block.picks) == ((10, 11, 12, 21, 22), (-1, 0, 1, 0, 1), 5)
    answer(core, step, (11, 22, 50, 51, 33))
    assert sequence.ids[3:] == [10, 11, 22, 33]
    assert origins(sequence) == "-aab"
    assert (sequence.tally.proposed, sequence.tally.accepted, sequence.tally.histogram) == (2, 2, [0, 0, 1])
    assert sequence.fed == 5, "22 lies beside the chain, so it is fed again"
    assert not sequence.prefilling
    following = core.plan(0.0)
    assert following is not None
    assert (following.blocks[0].start, following.blocks[0].tokens, following.blocks[0].picks) == (5, (22, 33), 1)
    answer(core, following, (34,))
    assert (sequence.fed, sequence.ids[-1]) == (7, 34)


def guess_behind(sequence: VerifySequence) -> Draft:
    """The same chain with 21 22 beside it, and 23 beside that 22."""
    window = Window(
        sequence.name, sequence.version, sequence.length, (11, 12, 21, 22, 23), (-1, 0, -1, 2, 2),
        confidence=(50, 50, 45, 50, 45), drafted=2, prepared=1,
    )  # fmt: skip
    return Draft("v", (window,))


def test_a_branch_that_is_right_is_committed_in_the_step_that_refuses_the_chain() -> None:
    core, sequence = started()
    core.propose("d", 1, guess_behind(sequence), now=0)
    step = core.plan(0.0)
    assert step is not None
    block = step.blocks[0]
    assert (block.tokens, block.parents, block.picks) == ((10, 11, 12, 21, 22, 23), (-1, 0, 1, 0, 3, 3), 6)
    answer(core, step, (21, 50, 51, 22, 33, 52))
    assert sequence.ids[3:] == [10, 21, 22, 33]
    assert origins(sequence) == "-aab"
    assert (sequence.tally.proposed, sequence.tally.accepted, sequence.tally.histogram) == (2, 2, [0, 0, 1])
    assert sequence.rejected == ()
    assert not sequence.prefilling
    following = core.plan(0.0)
    assert following is not None
    assert (following.blocks[0].start, following.blocks[0].tokens, following.blocks[0].picks) == (4, (21, 22, 33), 1)
    answer(core, following, (34,))
    assert (sequence.fed, sequence.ids[-1]) == (7, 34)


def test_a_close_call_beside_the_chain_brings_nothing_along() -> None:
    core, sequence = started()
    core.propose("d", 1, guess_beside(sequence), now=0)
    step = core.plan(0.0)
    assert step is not None
    core.apply(StepResult(step.number, (Picked((11, 22, 50, 51, 33), doubtful=frozenset({4})),), 0.001), 0.0)
    assert sequence.ids[3:] == [10, 11, 22]
    assert origins(sequence) == "-ar"
    assert sequence.tally.accepted == 1


def test_a_text_that_ends_beside_the_chain_ends_there() -> None:
    core, sequence = started(max_tokens=3)
    core.propose("d", 1, guess_beside(sequence), now=0)
    step = core.plan(0.0)
    assert step is not None
    assert step.blocks[0].tokens == (10, 11, 21), "one may be committed, and the model's own"
    answer(core, step, (21, 50, 33))
    assert sequence.ids[3:] == [10, 21, 33]
    assert sequence.finish is Finish.LENGTH
    assert sequence.counts is not None
    assert (sequence.counts.proposed, sequence.counts.accepted) == (1, 1)


def test_a_request_that_could_not_use_what_stands_beside_the_chain_does_not_score_it() -> None:
    core, sequence = started(temperature=1.0)
    core.propose("d", 1, guess_beside(sequence), now=0)
    step = core.plan(0.0)
    assert step is not None
    assert (step.blocks[0].tokens, step.blocks[0].parents) == ((10, 11, 12), None)


def test_alternating_scores_the_chain_alone() -> None:
    core, sequence = started(Strategy.ALTERNATING)
    window = replace(guess_beside(sequence).windows[0], full=True)
    core.propose("d", 1, Draft("v", (window,)), now=0)
    step = core.plan(0.0)
    assert step is not None
    assert (step.blocks[0].tokens, step.blocks[0].parents) == ((10, 11, 12), None)
