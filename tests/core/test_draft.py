"""The draft follows commits exactly: it keeps its lead, jumps forward, or rolls back to the first difference."""

from __future__ import annotations

from dataclasses import replace

from amusd_mp.core.draft import DraftCore
from amusd_mp.core.effort import ONE_IN, PATIENCE_ROUNDS
from amusd_mp.core.messages import Committed, Counts, Finish, SyncPage
from amusd_mp.core.params import GenerationParams, Speculation, Strategy
from amusd_mp.core.replica import Replica
from amusd_mp.core.step import Block, Picked, Step, StepResult

PROMPT = (1, 2, 3)


class Bench:
    """A draft core with one sequence, answered by hand: every step's guess is given by the test."""

    def __init__(self, lookahead: int = 4, strategy: Strategy = Strategy.AMUSD, **limits: int) -> None:
        self.core = DraftCore(rows=1, max_length=limits.pop("max_length", 100), eos_ids=(0,))
        self.output: list[int] = []
        self.origins = ""
        self.version = 0
        page = SyncPage(
            "s", 0, len(PROMPT), len(PROMPT), 0, PROMPT, GenerationParams(**limits), Speculation(strategy, lookahead)
        )  # fmt: skip
        replica = Replica(len(PROMPT))
        replica.merge(page)
        self.core.open(page, replica)

    def step(self, guess: int | None, confidence: float | None = None) -> Block:
        """Let one step run and guess `guess`; return what was fed."""
        step = self.core.plan()
        assert step is not None
        self.finish(step, guess, confidence)
        return step.blocks[0]

    def finish(self, step: Step, guess: int | None, confidence: float | None = None) -> list[tuple[int, ...]]:
        picked = Picked(() if guess is None else (guess,), confidence=() if confidence is None else (confidence,))
        return [told.window().tokens for told in self.core.apply(StepResult(step.number, (picked,), 0.0))]

    def commit(self, *tokens: int, finish: Finish | None = None, origin: str = "-") -> None:
        self.output += tokens
        self.origins += origin * len(tokens)
        self.version += 1
        length = len(PROMPT) + len(self.output)
        self.core.commit(
            Committed("s", self.version, len(PROMPT), tuple(self.output), length, self.origins,
                      finish=finish, counts=Counts(3) if finish else None)
        )  # fmt: skip

    @property
    def lead(self) -> list[int]:
        sequence = self.core.sequences["s"]
        return sequence.ids[sequence.committed :]


def test_it_guesses_until_the_lookahead_is_full_and_goes_on_after_a_commit() -> None:
    bench = Bench(lookahead=3)
    assert bench.step(10).tokens == PROMPT
    assert bench.step(11).tokens == (10,)
    assert bench.step(12).tokens == (11,)
    assert bench.core.plan() is None
    bench.commit(10)
    assert bench.step(13).tokens == (12,)


def test_a_commit_that_agrees_keeps_the_lead() -> None:
    bench = Bench()
    for guess in (10, 11, 12):
        bench.step(guess)
    bench.commit(10, 11)
    bench.step(13)
    assert bench.lead == [12, 13]
    assert bench.core.sequences["s"].rollbacks == 0


def test_a_difference_rolls_back_to_its_exact_point_and_feeds_the_rest_at_once() -> None:
    bench = Bench()
    for guess in (10, 11, 12):
        bench.step(guess)
    bench.commit(10, 99)
    block = bench.step(50)
    assert (block.start, block.tokens) == (len(PROMPT) + 1, (99,))
    assert bench.lead == [50]
    assert bench.core.sequences["s"].rollbacks == 1


def test_a_wrong_first_guess_loses_no_token() -> None:
    bench = Bench()
    bench.step(10)
    bench.commit(99, 98, 97)
    block = bench.step(50)
    assert (block.start, block.tokens) == (len(PROMPT), (99, 98, 97))


def test_commits_beyond_the_lead_are_jumped_over_in_one_forward() -> None:
    bench = Bench()
    bench.step(10)
    bench.commit(10, 11, 12, 13)
    block = bench.step(14)
    assert (block.start, block.tokens) == (len(PROMPT), (10, 11, 12, 13))
    assert bench.core.sequences["s"].rollbacks == 0


def test_a_fully_accepted_lead_and_its_bonus_feed_nothing_twice() -> None:
    bench = Bench(lookahead=2)
    bench.step(10)
    bench.step(11)
    bench.commit(10, 11, 12)
    block = bench.step(13)
    assert (block.start, block.tokens) == (len(PROMPT) + 1, (11, 12)), (
        "10 is in the cache, 11 was guessed but never fed"
    )


def test_several_commits_during_a_step_collapse_into_one() -> None:
    bench = Bench()
    bench.step(10)
    step = bench.core.plan()
    assert step is not None
    bench.commit(10)
    bench.commit(77)
    bench.commit(78, 79)
    assert bench.finish(step, 11) == [(10, 11)], "the result belongs to the state that asked for it"
    block = bench.step(80)
    assert (block.start, block.tokens) == (len(PROMPT) + 1, (77, 78, 79))


def test_after_a_rollback_the_stale_window_is_not_sent_again() -> None:
    bench = Bench()
    for guess in (10, 11, 12):
        bench.step(guess)
    bench.commit(99)
    step = bench.core.plan()
    assert step is not None
    assert bench.core.windows() == []
    assert bench.finish(step, 50) == [(50,)]


def test_alternating_sends_whole_rounds_only() -> None:
    bench = Bench(lookahead=2, strategy=Strategy.ALTERNATING)
    step = bench.core.plan()
    assert step is not None
    assert bench.finish(step, 10) == []
    step = bench.core.plan()
    assert step is not None
    assert bench.finish(step, 11) == [(10, 11)]


def test_it_stops_where_no_guess_can_be_used() -> None:
    assert Bench(strategy=Strategy.AUTOREGRESSIVE).core.plan() is None
    short = Bench(max_tokens=2)
    short.step(10)
    assert short.core.plan() is None, "the last token is the verify model's own"
    ended = Bench()
    ended.step(0)
    assert ended.core.plan() is None, "nothing follows an end of sequence"
    assert ended.core.windows()[0].full
    assert Bench(max_length=len(PROMPT)).core.plan() is None, "parked beyond its own context"


def test_a_sequence_closed_during_a_step_frees_its_row_only_afterwards() -> None:
    bench = Bench()
    step = bench.core.plan()
    assert step is not None
    bench.commit(10, finish=Finish.STOP)
    assert bench.core.free_rows == 0
    assert bench.finish(step, 10) == []
    assert bench.core.free_rows == 1


def test_sequences_beyond_the_rows_wait_for_one() -> None:
    bench = Bench()
    bench.step(10)
    first = bench.core.sequences["s"]
    page = SyncPage("t", 0, 1, 1, 0, (5,), GenerationParams(), Speculation())
    replica = Replica(1)
    replica.merge(page)
    bench.core.open(page, replica)
    step = bench.core.plan()
    assert step is not None
    assert [block.sequence for block in step.blocks] == ["s"]
    bench.finish(step, 11)
    bench.core.close(first.name)
    step = bench.core.plan()
    assert step is not None
    assert [block.sequence for block in step.blocks] == ["t"]


def test_a_sequence_beyond_its_context_gives_its_row_to_one_that_it_can_still_help() -> None:
    bench = Bench(max_length=8)
    bench.step(10)
    bench.commit(*range(20, 20 + 8 - len(PROMPT)))
    assert bench.core.plan() is None
    assert bench.core.free_rows == 1
    bench.commit(30)
    assert bench.core.plan() is None


def test_its_own_temperature_replaces_a_sampled_requests_and_leaves_greedy_ones() -> None:
    core = DraftCore(rows=2, max_length=100, eos_ids=(), temperature=0.4)
    for name, temperature in (("sampled", 0.9), ("greedy", 0.0)):
        page = SyncPage(name, 0, 1, 1, 0, (5,), GenerationParams(temperature=temperature), Speculation())
        replica = Replica(1)
        replica.merge(page)
        core.open(page, replica)
    step = core.plan()
    assert step is not None
    assert {block.sequence: block.params.temperature for block in step.blocks} == {"sampled": 0.4, "greedy": 0.0}
    assert replace(step.blocks[0].params, temperature=0.9) == GenerationParams(temperature=0.9)


def test_every_token_of_the_lead_keeps_the_confidence_it_was_guessed_with() -> None:
    bench = Bench(lookahead=8)
    for token, confidence in ((10, 0.91), (11, 0.5), (12, 0.333)):
        bench.step(token, confidence)
    bench.commit(10)
    bench.step(13, 1.0)
    (window,) = bench.core.windows()
    assert (window.tokens, window.confidence) == ((11, 12, 13), (50, 33, 100))
    bench.commit(11, 99)
    bench.step(14, 0.07)
    (window,) = bench.core.windows()
    assert (window.tokens, window.confidence) == ((14,), (7,))


def in_vain(bench: Bench, rounds: int) -> int:
    """Let the verify node write everything by itself, and return in how many rounds the draft guessed."""
    worked = 0
    for _ in range(rounds):
        bench.commit(20)
        step = bench.core.plan()
        if step is not None:
            worked += 1
            bench.finish(step, 10)
    return worked


def test_a_draft_that_is_never_used_rests_until_it_is() -> None:
    bench = Bench(max_length=1000)
    assert in_vain(bench, PATIENCE_ROUNDS) == PATIENCE_ROUNDS
    assert in_vain(bench, 4 * ONE_IN) == 4
    bench.commit(10, origin="a")
    assert bench.core.plan() is not None, "at work again"


def test_nor_does_one_rest_whose_verify_node_waits_for_it() -> None:
    bench = Bench(max_length=1000, strategy=Strategy.ALTERNATING)
    assert in_vain(bench, 4 * PATIENCE_ROUNDS) == 4 * PATIENCE_ROUNDS


def drafted(bench: Bench, confidence: float) -> int:
    """Let it guess for as long as it wants to, and return how many guesses that were."""
    count = 0
    while (step := bench.core.plan()) is not None:
        bench.finish(step, 50 + count, confidence)
        count += 1
    return count


def test_a_lead_ends_where_it_will_hardly_be_accepted_and_goes_on_when_it_was() -> None:
    bench = Bench(lookahead=60)
    assert drafted(bench, 0.3) == 13, "0.7 to the 13th is below a hundredth"
    bench.commit(*bench.lead[:5])
    assert drafted(bench, 0.3) > 5, "five were right, so what is left is likelier, and so is more"


def test_what_its_confidence_is_worth_it_learns_from_commits() -> None:
    bench = Bench(lookahead=60)
    for _ in range(25):
        drafted(bench, 0.1)
        bench.commit(9)
    assert drafted(bench, 0.1) <= 2, "always wrong when it was so sure"
    bench.commit(9)
    assert drafted(bench, 0.9) == 13, "of other confidence that says nothing"


def test_a_lead_that_another_sequence_made_less_likely_has_stopped() -> None:
    bench = Bench(lookahead=60)
    for at in range(6):
        bench.step(50 + at, 0.3)
    sequence = bench.core.sequences["s"]
    for _ in range(30):
        sequence.record.chain.judge(30, accepted=False)
    bench.commit(50)
    assert bench.core.plan() is None
    assert sequence.stopped, "so the pause before its next guess is not taken for the time that a guess takes"


def test_an_alternating_verify_node_gets_the_round_it_waits_for() -> None:
    bench = Bench(lookahead=20, strategy=Strategy.ALTERNATING)
    assert drafted(bench, 0.01) == 20


def test_a_draft_that_tells_no_confidence_fills_its_lookahead() -> None:
    bench = Bench(lookahead=20)
    for _ in range(20):
        bench.step(50)
    assert bench.core.plan() is None
