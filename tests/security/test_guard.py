"""Rule: what a key may ask is decided by its role alone, at every request, and a refusal says who wanted what."""

from __future__ import annotations

from pathlib import Path

import pytest
from keyring import Keyring

from amusd_mp.core.ledger import Refusal
from amusd_mp.core.messages import (
    Cancel,
    Detokenize,
    Drain,
    Envelope,
    ErrorCode,
    Hello,
    Message,
    Renew,
    Request,
    StatusRequest,
    Submit,
    Sync,
    Tokenize,
    Watch,
)
from amusd_mp.core.params import GenerationParams
from amusd_mp.errors import ConfigError
from amusd_mp.security.guard import MAY, Guard

REQUESTS: dict[Message, set[str]] = {
    Hello("draft", (1, 1)): {"draft"},
    Hello("client", (1, 1)): {"client"},
    Hello("observer", (1, 1)): {"draft", "client", "observer"},
    Hello("wizard", (1, 1)): set(),
    StatusRequest(): {"draft", "client", "observer"},
    Watch("v"): {"draft", "client", "observer"},
    Sync("s", "v"): {"draft", "client"},
    Submit("s", "v", "c", GenerationParams(), text="x"): {"client"},
    Renew("v", ("s",)): {"client"},
    Cancel("s", "v"): {"client"},
    Tokenize("v", "x"): {"client"},
    Detokenize("v", (1,)): {"client"},
    Drain("v"): {"client"},
}
"""Every request there is, and who may send it."""


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path)


@pytest.fixture
def guard(ring: Keyring) -> Guard:
    return Guard.of(ring.made("tcp://127.0.0.1:5601"), "verify")


def refusal(guard: Guard, request: Message, key: str | None) -> str | None:
    """Return why the guard refuses a request, None if it does not."""
    try:
        guard.check(Envelope("somebody", "i", 1, request), key)
    except Refusal as refused:
        return refused.reply.message if refused.reply.code is ErrorCode.FORBIDDEN else "another reason"
    return None


def test_no_request_was_forgotten() -> None:
    assert {type(request) for request in REQUESTS} == set(Request.__args__) == {Hello, *MAY}


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: f"{type(request).__name__} {request}"[:24])
def test_each_role_may_what_it_is_for_and_no_more(guard: Guard, ring: Keyring, request_: Message) -> None:
    for role in ("draft", "client", "observer"):
        why = refusal(guard, request_, ring.pairs[role].public)
        assert (why is None) == (role in REQUESTS[request_])
        if why is not None:
            assert f"has the role {role} and may not" in why
            assert "that takes the role" in why
    for key in (ring.pairs["stranger"].public, None):
        assert refusal(guard, request_, key) is not None
    assert refusal(Guard(), request_, None) is None  # without keys all is as it was


def test_only_a_draft_may_publish_as_one(guard: Guard, ring: Keyring) -> None:
    assert [name for name, pair in ring.pairs.items() if guard.may_draft(pair.public)] == ["draft"]
    assert not guard.may_draft(None)
    assert Guard().may_draft(None)


def test_a_sequence_is_cancelled_with_the_key_it_was_submitted_with(guard: Guard, ring: Keyring) -> None:
    mine, other = ring.pairs["client"].public, ring.pairs["other"].public
    guard.submitted("s", mine)
    guard.submitted("s", other)  # a copy of the request from elsewhere makes it nobody else's
    assert refusal(guard, Cancel("s", "v"), mine) is None
    assert "another key" in str(refusal(guard, Cancel("s", "v"), other))
    assert guard.disown(frozenset({other})) == []
    assert guard.disown(frozenset({mine})) == ["s"]
    assert guard.disown(frozenset({mine})) == []


def test_nobody_can_have_it_forgotten_whose_the_sequences_of_others_are(
    guard: Guard, ring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amusd_mp.security.guard.OWNED", 3)
    mine, other = ring.pairs["client"].public, ring.pairs["other"].public
    guard.submitted("s", mine)
    for number in range(9):
        guard.submitted(f"t{number}", other)  # refused or admitted, it costs but a request
    assert "another key" in str(refusal(guard, Cancel("s", "v"), other))
    assert guard.disown(frozenset({mine, other})) in (["s", "t6", "t7", "t8"], ["t6", "t7", "t8", "s"])


def test_a_verify_node_must_have_the_key_that_everybody_expects(ring: Keyring) -> None:
    made = ring.made("tcp://127.0.0.1:5601")
    node = made.nodes["verify"].model_copy(update={"key": str(ring.file("other"))})
    made.nodes["verify"] = node  # type: ignore[index]
    with pytest.raises(ConfigError, match="tells everybody to expect"):
        Guard.of(made, "verify")
