"""A replica becomes the same whatever the order, repetition or loss of what it merges, as long as the end arrives."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amusd_mp.core.messages import Committed, Counts, Finish, SyncPage
from amusd_mp.core.params import GenerationParams, Speculation
from amusd_mp.core.replica import Contradiction, Replica

PROMPT = 5


def window(tokens: list[int], start: int, end: int, version: int, finish: Finish | None = None) -> Committed:
    """The publication of output tokens start..end (counted from the output's beginning), two letters of text each."""
    part = tokens[start:end]
    return Committed(
        sequence="s",
        version=version,
        start=PROMPT + start,
        tokens=tuple(part),
        length=PROMPT + end,
        origins="".join("ar"[t % 2] for t in part),
        text="".join(f"{t % 100:02}" for t in part),
        text_start=2 * start,
        finish=finish,
        counts=Counts(PROMPT) if finish else None,
    )


@given(
    tokens=st.lists(st.integers(0, 99), min_size=1, max_size=40),
    seed=st.integers(0, 2**32),
    reach=st.integers(1, 8),
)
def test_merging_is_idempotent_and_order_does_not_matter(tokens: list[int], seed: int, reach: int) -> None:
    dice = random.Random(seed)
    windows = []
    for version, end in enumerate(range(1, len(tokens) + 1), start=1):
        finish = Finish.LENGTH if end == len(tokens) else None
        windows.append(window(tokens, max(0, end - reach), end, version, finish))
    arrivals = windows * 2
    dice.shuffle(arrivals)

    replica = Replica(PROMPT, offset=PROMPT)
    handed_out: list[int] = []
    for each in arrivals:
        handed_out += replica.merge(each).tokens
        assert replica.tokens == tokens[: len(replica.tokens)] == handed_out
        assert replica.text == "".join(f"{t:02}" for t in replica.tokens)
        assert len(replica.origins) == len(replica.tokens)
    replica.merge(window(tokens, 0, len(tokens), len(tokens), Finish.LENGTH))  # what a sync returns
    assert replica.tokens == tokens
    assert replica.finish is Finish.LENGTH
    assert replica.version == len(tokens)


def test_a_hole_is_reported_and_changes_nothing() -> None:
    replica = Replica(PROMPT, offset=PROMPT)
    delta = replica.merge(window([1, 2, 3, 4], 2, 4, 2, Finish.STOP))
    assert delta.gap
    assert replica.tokens == []
    assert not replica.complete


def test_an_end_without_new_tokens_ends() -> None:
    replica = Replica(PROMPT, offset=PROMPT)
    replica.merge(window([1, 2], 0, 2, 1))
    delta = replica.merge(window([1, 2], 0, 2, 2, Finish.CANCELLED))
    assert delta.finished
    assert delta.tokens == ()


def test_different_committed_tokens_are_a_contradiction_and_change_nothing() -> None:
    replica = Replica(PROMPT, offset=PROMPT)
    replica.merge(window([1, 2, 3], 0, 3, 3))
    with pytest.raises(Contradiction, match="differ between positions"):
        replica.merge(window([1, 9, 3, 4], 0, 4, 4))
    assert replica.tokens == [1, 2, 3]


def page(prompt_length: int, start: int, tokens: tuple[int, ...]) -> SyncPage:
    """Return a page of a sequence as a draft gets it: prompt tokens, too."""
    length, outputs = start + len(tokens), max(0, start + len(tokens) - max(start, prompt_length))
    return SyncPage(
        "s", 1, prompt_length, length, start, tokens, GenerationParams(), Speculation(), origins="a" * outputs
    )


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        (page(PROMPT + 1, 0, (1, 2, 3, 4, 5, 6)), "a prompt of 6 tokens, and before one of 5"),
        (page(PROMPT, 0, (1, 2, 9, 4, 5, 6)), "differ between positions"),
        (page(PROMPT, 5, (7, 8)), "differ between positions"),
    ],
)
def test_a_page_that_contradicts_an_earlier_one_changes_nothing(second: SyncPage, problem: str) -> None:
    replica = Replica(PROMPT)
    replica.merge(page(PROMPT, 0, (1, 2, 3, 4, 5, 6)))
    with pytest.raises(Contradiction, match=problem):
        replica.merge(second)
    assert replica.tokens == [1, 2, 3, 4, 5, 6]
    assert (replica.prompt_length, replica.origins) == (PROMPT, "a")
