"""Output stops exactly where one-by-one decoding would, and never emits a character of a stop string."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from amusd_mp.core.messages import Finish
from amusd_mp.core.output import Output
from amusd_mp.core.params import GenerationParams


class Letters:
    """Token i is the i-th piece; pieces may be empty, long, or share a stop string between them."""

    def __init__(self, pieces: list[str]) -> None:
        self.pieces = pieces

    def feed(self, token: int) -> str:
        return self.pieces[token]

    def flush(self) -> str:
        return ""


def reference(pieces: list[str], params: GenerationParams, eos: set[int], most: int) -> tuple[int, Finish, str]:
    """Slow and obvious: after every token look at the whole text. What min_tokens protected is no stop string later."""
    text, protected = "", 0
    stops = set(params.stop_token_ids) | (set() if params.ignore_eos else eos)
    for count, piece in enumerate(pieces, start=1):
        allowed = count > params.min_tokens
        if allowed and count - 1 in stops:
            return count, Finish.STOP, text
        text += piece
        cuts = [at for stop in params.stop if (at := text.find(stop, max(0, protected - len(stop) + 1))) >= 0]
        if cuts and allowed:
            return count, Finish.STOP, text[: min(cuts)]
        if not allowed:
            protected = len(text)
        if count == most:
            return count, Finish.LENGTH, text
    raise AssertionError("does not end")


@given(
    pieces=st.lists(st.text("abc", max_size=4), min_size=1, max_size=30),
    stop=st.lists(st.text("abc", min_size=1, max_size=4), max_size=3),
    stop_ids=st.sets(st.integers(0, 40), max_size=2),
    eos=st.sets(st.integers(0, 40), max_size=2),
    ignore_eos=st.booleans(),
    min_tokens=st.integers(0, 5),
)
def test_output_equals_the_slow_reference(
    pieces: list[str], stop: list[str], stop_ids: set[int], eos: set[int], ignore_eos: bool, min_tokens: int
) -> None:
    params = GenerationParams(
        stop=tuple(stop), stop_token_ids=tuple(stop_ids), ignore_eos=ignore_eos, min_tokens=min_tokens
    )
    output = Output(params, Letters(pieces), eos, max_tokens=len(pieces))
    seen = ""
    for token in range(len(pieces)):
        finish = output.add(token)
        assert output.text.startswith(seen), "emitted text was taken back"
        seen = output.text
        if finish is not None:
            break
    assert (len(output.ends), finish, output.text) == reference(pieces, params, eos, len(pieces))
    assert output.ends[-1] == len(output.text)


@given(stop=st.text("ab", min_size=1, max_size=5), before=st.text("ab", max_size=6))
def test_nothing_of_a_stop_string_leaks_while_it_is_being_completed(stop: str, before: str) -> None:
    pieces = list(before + stop)
    cut = (before + stop).find(stop)
    output = Output(GenerationParams(stop=(stop,)), Letters(pieces), (), max_tokens=len(pieces) + 1)
    for token in range(len(pieces)):
        finish = output.add(token)
        assert len(output.text) <= cut
        if finish is not None:
            break
    assert output.text == (before + stop)[:cut]


def test_a_stop_string_within_min_tokens_is_plain_text() -> None:
    params = GenerationParams(stop=("a",), min_tokens=2)
    output = Output(params, Letters(["a", "b", "c", "a"]), (), max_tokens=10)
    assert [output.add(token) for token in range(4)] == [None, None, None, Finish.STOP]
    assert output.text == "abc"
