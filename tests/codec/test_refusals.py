"""Rule: what breaks a rule of the protocol is refused with the field at fault, and nothing else is."""

from __future__ import annotations

import dataclasses
import math

import msgpack
import pytest
from messages import (
    CARD,
    COMMITTED,
    DRAFT,
    SUBMIT,
    changed,
    envelope_of,
    unpacked,
)

from amusd_mp.codec import DecodeError, OtherProtocol, UnknownType, decode, encode
from amusd_mp.core.limits import (
    DIGEST_PAGES,
    EVENTS,
    KEPT_SEQUENCES,
    LOGPROBS,
    LOOKAHEAD_MAX,
    NAME_CHARACTERS,
    PUBLICATION_BYTES,
    REQUEST_BYTES,
    STOP_CHARACTERS,
    STOP_STRINGS,
    WINDOW_TREE,
)
from amusd_mp.core.messages import (
    Barrier,
    Beat,
    ChatMessage,
    Hello,
    Message,
    NodeState,
    Renew,
    StatusRequest,
    StepTrace,
    Submit,
)

REFUSED: list[tuple[Message, str, object]] = [
    (SUBMIT, "sequence", ...),
    (SUBMIT, "sequence", ""),
    (SUBMIT, "sequence", "a/b"),
    (SUBMIT, "sequence", "a\nb"),
    (SUBMIT, "sequence", "a\n"),
    (SUBMIT, "sequence", "ä"),
    (SUBMIT, "sequence", "x" * 41),
    (SUBMIT, "sequence", 5),
    (SUBMIT, "verify", ""),
    (SUBMIT, "ids", (1,)),
    (SUBMIT, "text", ...),
    (SUBMIT, "params", ...),
    (SUBMIT, "params", "none"),
    (SUBMIT, "params.seed", -1),
    (SUBMIT, "params.seed", "1"),
    (SUBMIT, "params.max_tokens", True),
    (SUBMIT, "params.max_tokens", 1.0),
    (SUBMIT, "params.temperature", math.nan),
    (SUBMIT, "params.temperature", math.inf),
    (SUBMIT, "params.temperature", -0.5),
    (SUBMIT, "params.temperature", "0.5"),
    (SUBMIT, "params.presence_penalty", math.inf),
    (SUBMIT, "params.repetition_penalty", 0.0),
    (SUBMIT, "params.top_p", 0.0),
    (SUBMIT, "params.top_p", 1.5),
    (SUBMIT, "params.logit_bias", [[1, math.nan]]),
    (SUBMIT, "params.logit_bias", [[-1, 1.0]]),
    (SUBMIT, "params.logit_bias", [[1, 1.0, 1.0]]),
    (SUBMIT, "params.stop", ["x"] * (STOP_STRINGS + 1)),
    (SUBMIT, "params.stop", [""]),
    (SUBMIT, "params.logprobs", LOGPROBS + 1),
    (SUBMIT, "params.ignore_eos", 1),
    (SUBMIT, "speculation", {"lookahead": 0}),
    (SUBMIT, "speculation", {"lookahead": LOOKAHEAD_MAX + 1}),
    (SUBMIT, "speculation", {"strategy": "other"}),
    (COMMITTED, "tokens", [5, -1]),
    (COMMITTED, "tokens", [5, 2**31]),
    (COMMITTED, "tokens", [5, True]),
    (COMMITTED, "tokens", [5]),
    (COMMITTED, "tokens", "ab"),
    (COMMITTED, "tokens", {"5": 6}),
    (COMMITTED, "origins", "a"),
    (COMMITTED, "origins", "ax"),
    (COMMITTED, "version", -1),
    (COMMITTED, "length", 13),
    (COMMITTED, "finish", "stop"),
    (COMMITTED, "counts", {"prompt_tokens": 1}),
    (COMMITTED, "logprobs", [{"logprob": -1.0}]),
    (COMMITTED, "logprobs", [{"logprob": -1.0}, {"logprob": math.nan}]),
    (DRAFT, "windows.0.confidence", [50, 50]),
    (DRAFT, "windows.0.confidence", [50, 50, 101]),
    (DRAFT, "windows.0.parents", [-1, 0]),
    (DRAFT, "windows.0.parents", [-1, 1, 0]),
    (DRAFT, "windows.0.parents", [-2, 0, 0]),
    (DRAFT, "windows.0.base", 2**63),
    (DRAFT, "seconds", -1.0),
    # what is bounded so that neither a sum nor a store grows without end
    (DRAFT, "windows.0.drafted", EVENTS),
    (DRAFT, "windows.0.prepared", EVENTS),
    (DRAFT, "windows.0.rollbacks", EVENTS),
    (DRAFT, "windows.0.tokens", [1] * (WINDOW_TREE + 1)),
    (DRAFT, "seconds", 1e11),
    (DRAFT, "sent", -1e300),
    (SUBMIT, "params.stop", ["x" * (STOP_CHARACTERS + 1)]),
    (Renew("v", ("s",)), "sequences", ["s"] * (KEPT_SEQUENCES + 1)),
    (Beat(NodeState.READY), "pages", DIGEST_PAGES + 1),
    (Hello("draft", (1, 1), CARD), "model.name", "x" * (NAME_CHARACTERS + 1)),
    (Beat(NodeState.READY), "state", "sleeping"),
    (Beat(NodeState.READY), "page", 1),
    (Beat(NodeState.READY), "digest", [{"sequence": "s", "version": 1, "length": 2}] * 257),
    (Barrier("n"), "nonce", ""),
    (Hello("draft", (1, 1)), "protocols", [2, 1]),
    (Hello("draft", (1, 1)), "protocols", [1]),
    (Hello("draft", (1, 1)), "topic", "x" * 121),
    (StepTrace("draft", 1, 0.5, 0.75), "ended", 0.25),
    (DRAFT, "^q", -1),
    (DRAFT, "^q", "1"),
    (DRAFT, "^n", "a/b"),
    (DRAFT, "^n", ...),
    (DRAFT, "^i", ""),
    (DRAFT, "^i", b"00ff"),
    (DRAFT, "^v", ...),
    (DRAFT, "^v", True),
    (DRAFT, "^t", 3),
    (DRAFT, "^t", ...),
    (DRAFT, "^b", ...),
    (DRAFT, "^b", [1]),
]


@pytest.mark.parametrize(("body", "path", "value"), REFUSED)
def test_what_breaks_a_rule_is_refused_naming_the_field(body: Message, path: str, value: object) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(changed(body, path, value))
    error = caught.value
    assert type(error) is DecodeError
    assert error.reason
    assert "\n" not in error.reason
    assert len(error.reason) <= 200
    if path.startswith("^"):
        assert error.field == path[1:]
    else:
        assert error.tag == unpacked(body)["t"]


def test_the_path_of_the_field_at_fault_is_reported() -> None:
    with pytest.raises(DecodeError, match=r"submit: params\.logit_bias\.0\.1: .*finite") as caught:
        decode(changed(SUBMIT, "params.logit_bias", [[1, math.inf]]))
    assert caught.value.field == "params.logit_bias.0.1"


@pytest.mark.parametrize(
    ("body", "path", "value"),
    [
        (SUBMIT, "params.temperature", 1),
        (SUBMIT, "params.seed", 2**64 - 1),
        (SUBMIT, "params.color", "red"),
        (SUBMIT, "color", {"deep": [1, [2, [3]]]}),
        (SUBMIT, "^color", "red"),
        (SUBMIT, "speculation", None),
        (COMMITTED, "logprobs", [{"logprob": -1.0}, {"logprob": -math.inf}]),
        (StatusRequest(), "verify", ""),
        (Hello("draft", (1, 1)), "nonce", ""),
    ],
)
def test_what_keeps_the_rules_is_accepted(body: Message, path: str, value: object) -> None:
    assert type(decode(changed(body, path, value)).body) is type(body)


def test_integers_become_floats_where_the_type_says_so() -> None:
    received = decode(changed(SUBMIT, "params.temperature", 1)).body
    assert isinstance(received, Submit)
    assert type(received.params.temperature) is float


def test_a_conversation_travels() -> None:
    chat = dataclasses.replace(SUBMIT, text=None, messages=(ChatMessage("user", "Grüße"), ChatMessage("assistant", "")))
    assert decode(encode(envelope_of(chat))).body == chat


def test_an_unknown_type_is_told_apart() -> None:
    with pytest.raises(UnknownType) as caught:
        decode(changed(DRAFT, "^t", "gossip\n" + "x" * 1000))
    assert caught.value.tag.startswith("gossip\\n")
    assert len(str(caught.value)) < 120


def test_another_protocol_is_told_apart_whatever_its_body() -> None:
    with pytest.raises(OtherProtocol) as caught:
        decode(msgpack.packb({"v": 2, "t": "novel"}))
    assert caught.value.theirs == 2


def test_sizes_are_bounded() -> None:
    long_text = dataclasses.replace(COMMITTED, text="x" * PUBLICATION_BYTES)
    with pytest.raises(DecodeError, match="publication"):
        decode(encode(envelope_of(long_text)))
    with pytest.raises(DecodeError, match=str(REQUEST_BYTES)):
        decode(bytes(REQUEST_BYTES + 1))
    prompt = dataclasses.replace(SUBMIT, text=None, ids=tuple(range(100_000)))
    assert decode(encode(envelope_of(prompt))).body == prompt
