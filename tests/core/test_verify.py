"""The verify side decides, stops exactly, counts by the field's definitions, and lets no sequence stall another."""

from __future__ import annotations

from verifying import EOS, answer, guess, opened, origins, started

from amusd_mp.core.choosing import PATIENCE, ROUNDS_TOKENS
from amusd_mp.core.messages import Draft, Finish, Origin, Window
from amusd_mp.core.overlap import OverlapMeter
from amusd_mp.core.params import Strategy
from amusd_mp.core.step import PREFILL_CHUNK
from amusd_mp.core.tempo import ArrivalClock
from amusd_mp.core.verify import VerifyCore


def test_accepted_then_recovered() -> None:
    core, sequence = started()
    core.propose("d", 1, guess(sequence, 11, 12, 13), now=0)
    step = core.plan(0.0)
    assert step is not None
    assert (step.blocks[0].tokens, step.blocks[0].picks) == ((10, 11, 12, 13), 4)
    answer(core, step, (11, 99, 50, 51))
    assert sequence.ids[3:] == [10, 11, 99]
    assert origins(sequence) == "-ar"
    assert sequence.rejected == (12, 13)
    assert sequence.fed == 5, "the recovered token is fed by the next block"
    assert (sequence.tally.steps, sequence.tally.proposed, sequence.tally.accepted) == (1, 3, 1)


def test_full_acceptance_brings_a_bonus() -> None:
    core, sequence = started()
    core.propose("d", 1, guess(sequence, 11, 12), now=0)
    answer(core, core.plan(0.0), (11, 12, 13))
    assert origins(sequence) == "-aab"
    assert sequence.tally.histogram == [0, 0, 1]


def test_without_a_draft_it_decodes_alone() -> None:
    core = VerifyCore(rows=1, vocabulary=1000)
    sequence = opened(core, max_tokens=3)
    for token in (10, 11, 12):
        answer(core, core.plan(0.0), (token,))
    assert sequence.finish is Finish.LENGTH
    assert sequence.counts is not None
    assert (sequence.counts.steps, sequence.counts.alone, sequence.counts.degraded) == (0, 3, True)
    assert set(sequence.origins) == {Origin.ALONE}


def test_everything_is_cut_at_a_stop_inside_an_accepted_block() -> None:
    core, sequence = started()
    core.propose("d", 1, guess(sequence, 11, EOS, 13), now=0)
    (changed,) = answer(core, core.plan(0.0), (11, EOS, 13, 14))
    assert changed.finish is Finish.STOP
    assert sequence.ids[3:] == [10, 11, EOS]
    assert sequence.counts is not None
    assert (sequence.counts.proposed, sequence.counts.accepted, sequence.counts.output_tokens) == (2, 2, 3)
    assert sequence.rejected == ()
    assert core.free_rows == 2


def test_no_more_is_proposed_than_max_tokens_can_use() -> None:
    core, sequence = started(max_tokens=3)
    core.propose("d", 1, guess(sequence, 11, 12, 13), now=0)
    step = core.plan(0.0)
    assert step is not None
    assert step.blocks[0].tokens == (10, 11)
    answer(core, step, (11, 12))
    assert sequence.finish is Finish.LENGTH


def test_windows_that_are_late_wrong_or_impossible_are_not_used() -> None:
    core, sequence = started()
    assert not core.propose("d", 1, guess(sequence, 11, base=99), now=0), "beyond what is committed"
    assert not core.propose("d", 2, guess(sequence, 1000), now=0), "outside the vocabulary"
    assert not core.propose("nobody", 3, guess(sequence, 11), now=0), "of a draft that is not joined"
    core.propose("d", 4, guess(sequence, 77, 11, base=3), now=0)  # 77 where 10 is committed
    step = core.plan(0.0)
    assert step is not None
    assert step.blocks[0].tokens == (10,)


def test_a_window_on_an_older_commit_counts_where_it_agrees() -> None:
    core, sequence = started()
    core.propose("d", 1, guess(sequence, 10, 11, 12, base=3), now=0)
    step = core.plan(0.0)
    assert step is not None
    assert step.blocks[0].tokens == (10, 11, 12)


def test_a_draft_that_leaves_takes_its_guesses_and_marks_the_sequence_degraded() -> None:
    core, sequence = started()
    core.propose("d", 1, guess(sequence, 11), now=0)
    core.drop_draft("d")
    step = core.plan(0.0)
    assert step is not None
    assert step.blocks[0].tokens == (10,)
    assert sequence.tally.degraded


def test_a_sequence_closed_during_a_step_gets_nothing_from_it_and_keeps_its_row_until_then() -> None:
    core, sequence = started()
    step = core.plan(0.0)
    last = core.close("s", Finish.CANCELLED, now=0)
    assert last is not None
    assert last.finish is Finish.CANCELLED
    assert core.free_rows == 1
    assert answer(core, step, (11,)) == []
    assert sequence.ids[3:] == [10]
    assert core.free_rows == 2


def test_a_long_prompt_is_fed_in_chunks_that_take_turns_with_decoding() -> None:
    core, _ = started()
    long = opened(core, "long", prompt=2 * PREFILL_CHUNK + 5)
    kinds = []
    for token in range(11, 18):
        step = core.plan(0.0)
        assert step is not None
        kinds.append("".join("L" if block.sequence == "long" else "s" for block in step.blocks))
        answer(core, step, *[(token,) if block.picks else () for block in step.blocks])
    assert kinds == ["s", "L", "s", "L", "s", "L", "sL"]
    assert long.outputs == 2


def test_short_prompts_share_a_step() -> None:
    core = VerifyCore(rows=3, vocabulary=1000)
    for name in "abc":
        opened(core, name, prompt=9)
    step = core.plan(0.0)
    assert step is not None
    assert [block.sequence for block in step.blocks] == ["a", "b", "c"]


def test_alternating_waits_for_its_round_but_not_for_ever() -> None:
    core, sequence = started(Strategy.ALTERNATING, lookahead=2)
    assert core.plan(0.0) is None
    assert core.wake_at == PATIENCE
    core.propose("d", 1, guess(sequence, 11), now=0.1)
    assert core.plan(0.1) is None
    step = core.plan(PATIENCE)
    assert step is not None
    assert step.blocks[0].tokens == (10, 11)
    answer(core, step, (11, 12), now=PATIENCE)
    assert core.plan(PATIENCE) is not None, "after a miss it waits for nobody until the next window"


def test_alternating_takes_a_round_that_the_draft_calls_full() -> None:
    core, sequence = started(Strategy.ALTERNATING, lookahead=4)
    core.propose("d", 1, guess(sequence, 11, full=True), now=0)
    step = core.plan(0.0)
    assert step is not None
    assert step.blocks[0].tokens == (10, 11)


def test_one_alternating_sequence_does_not_stall_another() -> None:
    core, _ = started(Strategy.ALTERNATING)
    opened(core, "other", strategy=Strategy.AUTOREGRESSIVE)
    answer(core, core.plan(0.0), (20,))
    step = core.plan(0.0)
    assert step is not None
    assert [block.sequence for block in step.blocks] == ["other"]


def test_rounds_of_many_proposals_share_what_a_step_takes_of_them() -> None:
    """Neighbours that leave the choice to the policy are in the same step."""
    core, first = started(Strategy.ALTERNATING, lookahead=200, max_tokens=400)
    second = opened(core, "other", strategy=Strategy.ALTERNATING, lookahead=200, max_tokens=400)
    answer(core, core.plan(0.0), (10,))
    for number, sequence in enumerate((first, second), start=1):
        core.propose("d", number, guess(sequence, *range(100, 300)), now=0)
    step = core.plan(0.0)
    assert step is not None
    assert [len(block.tokens) - 1 for block in step.blocks] == [200, ROUNDS_TOKENS - 200]


def test_a_page_and_a_publication_tell_the_same() -> None:
    core, sequence = started()
    core.propose("d", 1, guess(sequence, 11, 12), now=0)
    answer(core, core.plan(0.0), (11, 99, 0))
    page, window = sequence.page(sequence.prompt_length), sequence.committed()
    assert (page.tokens, page.origins, page.text) == (window.tokens, window.origins, window.text)
    assert sequence.page(0).tokens == tuple(sequence.ids)
    assert sequence.page(10_000).tokens == ()


def test_a_publication_says_all_that_its_step_committed() -> None:
    core, sequence = started(Strategy.ALTERNATING, lookahead=99, max_tokens=400)
    for first in (11, 111):
        proposed = range(first, first + 99)
        core.propose("d", first, guess(sequence, *proposed), now=0)
        length = sequence.length
        answer(core, core.plan(0.0), (*proposed, first + 99))
        assert sequence.length == length + 100
        assert sequence.committed().start <= length
    core.close("s", Finish.CANCELLED, 1.0)
    assert sequence.committed().start <= length


def test_overlap_is_the_time_both_computed() -> None:
    meter = OverlapMeter()
    meter.verify_step(0.0, 1.0)
    meter.draft_step(0.5, now=0.7)  # 0.2 .. 0.7
    meter.draft_step(0.6, now=1.2)  # 0.7 .. 1.2, of which the verify step shares 0.3
    meter.verify_step(1.1, 1.5)  # shares 1.1 .. 1.2
    assert abs(meter.total - (0.5 + 0.3 + 0.1)) < 1e-9
    meter.draft_step(0.6, now=1.2)  # the same step told for another sequence
    assert abs(meter.total - 0.9) < 1e-9


def test_a_message_read_late_is_dated_by_its_stamp() -> None:
    clock = ArrivalClock()
    assert clock.arrived(sent=100.0, now=5.0) == 5.0
    assert clock.arrived(sent=101.0, now=6.3) == 6.0, "0.3 s late: it has been faster"
    assert clock.arrived(sent=102.0, now=6.9) == 6.9, "faster than ever before"


def test_only_steps_that_the_policy_chose_say_what_a_second_is_worth() -> None:
    """Strategies share the node, and a benchmark's turns of another one must not steer this one."""
    core, sequence = started(strategy=Strategy.AUTOREGRESSIVE)
    for now in (1.0, 2.0, 3.0):
        answer(core, core.plan(now), (20,), now=now + 0.5)
    assert core.policy.costs.estimate(1, 0) == 0.5
    assert core.policy.price.of(1, alone=0.0) == 0.0
    core.close(sequence.name, Finish.CANCELLED, 4.0)
    opened(core, "own", prompt=1)
    answer(core, core.plan(5.0), (10,), now=5.5)
    assert core.policy.price.of(1, alone=0.0) > 0


def test_a_draft_that_was_always_wrong_is_tried_again_however_unlikely_its_tokens_have_become() -> None:
    core, sequence = started(max_tokens=200)
    scored: list[int] = []
    for number in range(150):
        window = Window(
            sequence.name, sequence.version, sequence.length, (500,), confidence=(5,), full=True,
            drafted=number + 1, rollbacks=number,
        )  # fmt: skip
        if number > 3:  # what a step takes without it is known by then
            core.propose("d", number + 1, Draft("v", (window,)), now=float(number))
        step = core.plan(float(number))
        assert step is not None
        scored.append(len(step.blocks[0].tokens) - 1)
        answer(core, step, (11,) * len(step.blocks[0].tokens), now=number + 0.4 + 0.1 * len(step.blocks[0].tokens))
    assert sum(scored[50:]) > 0, "probes"
    assert sum(scored[50:]) < 10


def test_no_probe_waits_for_a_draft_that_has_just_been_wrong_and_one_that_becomes_good_is_noticed() -> None:
    """Its window comes while a step runs, and that step's own token says at once what it is worth."""
    core, sequence = started(max_tokens=400)
    waited: list[int] = []
    used: list[int] = []
    now = 1.0
    for number in range(200):
        while (step := core.plan(now)) is None:
            waited.append(number)
            assert core.wake_at is not None
            now = core.wake_at
        if len(step.blocks[0].tokens) > 1:
            used.append(number)
        told = now + 0.2
        window = Window(
            sequence.name, sequence.version, sequence.length, (11 if number > 100 else 500, 11), drafted=2 * number + 2,
            rollbacks=number, resumed_at=told, guessed_at=told,
        )  # fmt: skip
        core.propose("d", number + 1, Draft("v", (window,), sent=told), now=told)
        now += 1.0
        answer(core, step, (11,) * len(step.blocks[0].tokens), now=now)
    assert not [number for number in waited if number > 20], "after what it takes to find out"
    assert len([number for number in used if number > 150]) > 20
