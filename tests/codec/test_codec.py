"""Rule: every message survives the wire unchanged, and nothing but `DecodeError` ever comes out of hostile bytes."""

from __future__ import annotations

import dataclasses
import enum
import math
import types
import typing
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amusd_mp.codec import DecodeError, OtherProtocol, UnknownType, decode, encode
from amusd_mp.core.limits import (
    AGES,
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
    TAGS,
    Barrier,
    Beat,
    ChatMessage,
    Committed,
    Counts,
    Draft,
    Envelope,
    ErrorCode,
    ErrorReply,
    Finish,
    Hello,
    Message,
    NodeState,
    Opened,
    Renew,
    StatusRequest,
    StepTrace,
    Submit,
    Sync,
    SyncPage,
    Tokenize,
    Window,
)
from amusd_mp.core.model import Fingerprint, ModelCard
from amusd_mp.core.params import GenerationParams, Speculation, Strategy
from amusd_mp.core.step import TokenLogprob

# ------------------------------------------------------------------------------- strategies, derived from the types

IDENTIFIERS = st.text(
    st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="/"), min_size=1, max_size=40
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TOKENS = st.integers(0, 2**31 - 1)
SHARES = st.floats(0, 1)
POSITIVE = st.floats(0, 1e9, exclude_min=True)
LOGPROB = st.floats(max_value=0, allow_nan=False)

BY_NAME: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(["sequence", "client", "node", "incarnation", "verify", "nonce", "role"], IDENTIFIERS),
    **dict.fromkeys(["sequences", "unknown"], st.lists(IDENTIFIERS, max_size=4).map(tuple)),
    **dict.fromkeys(
        ["tokens", "ids", "resumed", "rejected", "eos_ids", "special_ids", "stop_token_ids"],
        st.lists(TOKENS, max_size=8).map(tuple),
    ),
    **dict.fromkeys(["beat", "liveness", "lease", "repetition_penalty", "top_p"], SHARES.filter(bool)),
    **dict.fromkeys(["seconds", "step_age", "retry_after", "temperature", "min_p", "acceptance"], SHARES),
    **dict.fromkeys(["sent", "began", "ended", "resumed_at"], st.floats(-AGES, AGES)),
    "topic": IDENTIFIERS.map(lambda each: f"d/{each}"),
    "lookahead": st.integers(1, LOOKAHEAD_MAX),
    "seed": st.integers(0, 2**64 - 1),
    "stop": st.lists(TEXT.filter(bool), max_size=STOP_STRINGS).map(tuple),
    "logit_bias": st.lists(st.tuples(TOKENS, st.floats(-100, 100)), max_size=3).map(tuple),
    "logprob": LOGPROB,
    "top": st.lists(st.tuples(TOKENS, LOGPROB), max_size=3).map(tuple),
    "protocols": st.tuples(st.integers(0, 3), st.integers(3, 9)),
}


def of_type(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of an annotation used in messages."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return of_message(kind)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*[of_type(each) for each in arguments])
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(of_type(arguments[0]), max_size=4).map(tuple)
    if origin is tuple:
        return st.tuples(*[of_type(each) for each in arguments])
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return st.sampled_from(kind)
    leaves = {
        type(None): st.none(),
        bool: st.booleans(),
        int: st.integers(0, 2**63 - 1),
        float: st.floats(allow_nan=False, allow_infinity=False),
        str: TEXT,
    }
    return leaves[kind]


def of_message(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a message dataclass whose fields fit each other."""
    hints = typing.get_type_hints(kind)
    made: dict[str, st.SearchStrategy[Any]] = {}
    for field in dataclasses.fields(kind):
        named = BY_NAME.get(field.name)
        if named is None or (
            hints[field.name] is int and field.name == "sequences"
        ):  # `sequences` is a list of ids here and a count there
            made[field.name] = of_type(hints[field.name])
        elif type(None) in typing.get_args(hints[field.name]):
            made[field.name] = st.none() | named
        else:
            made[field.name] = named
    if kind is GenerationParams:
        made["logprobs"] = st.none() | st.integers(0, LOGPROBS)
    return st.fixed_dictionaries(made).map(lambda values: kind(**fitted(kind, values)))


def fitted(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """Change drawn values so that they owe each other nothing."""
    count = len(values.get("tokens", ()))
    if kind in (Committed, SyncPage):
        values["start"] %= 1000
        values["length"] = values["start"] + count
        if values["counts"] is None or values["finish"] is None:
            values["counts"] = values["finish"] = None
    if kind is SyncPage:
        values["prompt_length"] %= 1000
        count = max(0, values["length"] - max(values["start"], values["prompt_length"]))
    if kind in (Committed, SyncPage):
        values["origins"] = ("arb-" * count)[:count]
        values["ends"] = tuple(range(count))
        if values["logprobs"] is not None:
            values["logprobs"] = (TokenLogprob(-0.5, ((3, -math.inf),)),) * count
    if kind is Window:
        values["drafted"] %= EVENTS
        values["rollbacks"] %= EVENTS
        values["confidence"] = (100,) * count if values["confidence"] else ()
    if kind is Window and values["parents"] is not None:
        values["parents"] = tuple(range(-1, count - 1))
    if kind is Submit:
        for spare in ("ids", "messages") if values["text"] is not None else ("messages",) if values["ids"] else ():
            values[spare] = None
        if values["text"] is None and not values["ids"]:
            values["ids"], values["messages"] = None, values["messages"] or ()
    if kind is Tokenize:
        values["messages"] = None if values["text"] is not None else values["messages"] or ()
    if kind is Beat:
        values["page"] %= DIGEST_PAGES
        values["pages"] = values["page"] + 1
    if kind is StepTrace:
        values["began"], values["ended"] = sorted((values["began"], values["ended"]))
    return values


def envelopes(body: st.SearchStrategy[Any]) -> st.SearchStrategy[Envelope]:
    return st.builds(Envelope, node=IDENTIFIERS, incarnation=IDENTIFIERS, number=st.integers(0, 2**63 - 1), body=body)


# ------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("tag", TAGS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_every_message_survives_the_wire(tag: str, data: st.DataObject) -> None:
    envelope = data.draw(envelopes(of_message(TAGS[tag])))
    received = decode(encode(envelope))
    assert received == envelope
    assert type(received.body) is TAGS[tag]
    assert encode(received) == encode(envelope)


def envelope_of(body: Message) -> Envelope:
    return Envelope("verify", "00ff", 7, body)


def unpacked(body: Message) -> dict[str, Any]:
    return msgpack.unpackb(encode(envelope_of(body)))


PARAMS = GenerationParams(max_tokens=8)
CARD = ModelCard("m", Fingerprint(9, "h", ()), 99, (), 1, "cpu", "float32", "slot")
SUBMIT = Submit("s", "00ff", "c", PARAMS, text="Hello")
COMMITTED = Committed("s", 3, 10, (5, 6), 12, "a-", text="hi")
DRAFT = Draft("00ff", (Window("s", 3, 12, (5, 6, 7), parents=(-1, 0, 0)),))
EXAMPLES: list[Message] = [
    SUBMIT,
    COMMITTED,
    DRAFT,
    Opened("s", 3, "aa"),
    Beat(NodeState.READY),
    Barrier("n"),
    StepTrace("draft", 1, 0.5, 0.75),
    Hello("draft", (1, 1)),
    Sync("s", "00ff"),
    Renew("00ff", ("s", "t")),
    SyncPage("s", 1, 2, 4, 0, (1, 2, 3, 4), PARAMS, Speculation(), origins="-a", text="ab"),
    ErrorReply(ErrorCode.BUSY, "full", retry_after=1.0),
]


def test_the_envelope_is_short_and_defaults_are_left_out() -> None:
    assert unpacked(DRAFT) == {
        "v": 1,
        "t": "draft",
        "n": "verify",
        "i": "00ff",
        "q": 7,
        "b": {
            "verify": "00ff",
            "windows": [{"sequence": "s", "version": 3, "base": 12, "tokens": [5, 6, 7], "parents": [-1, 0, 0]}],
        },
    }
    assert unpacked(SUBMIT)["b"]["params"] == {"max_tokens": 8}


def test_enums_travel_as_their_value() -> None:
    final = dataclasses.replace(COMMITTED, finish=Finish.STOP, counts=Counts(10))
    assert unpacked(final)["b"]["finish"] == "stop"
    assert decode(encode(envelope_of(final))).body == final
    speculation = Speculation(Strategy.ALTERNATING, 4)
    submit = dataclasses.replace(SUBMIT, speculation=speculation)
    received = decode(encode(envelope_of(submit))).body
    assert isinstance(received, Submit)
    assert received.speculation == speculation
    assert isinstance(received.speculation.strategy, Strategy)


# ------------------------------------------------------------------------------- what is refused


def changed(body: Message, path: str, value: object) -> bytes:
    """Return the bytes of a message with one value replaced, `...` for removed."""
    message = unpacked(body)
    *outer, last = ("b." + path).split(".") if not path.startswith("^") else [path[1:]]
    target = message
    for step in outer:
        target = target[int(step)] if isinstance(target, list) else target.setdefault(step, {})
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return msgpack.packb(message)


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


# ------------------------------------------------------------------------------- hostile bytes


def survives(payload: bytes) -> None:
    """Decode; whatever comes through is a message that encodes again."""
    try:
        envelope = decode(payload)
    except DecodeError:
        return
    assert decode(encode(envelope)) == envelope


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | TEXT
    | st.binary(max_size=20)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=4))
    | st.builds(msgpack.Timestamp, st.integers(0, 2**33)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT | st.binary(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_random_bytes(payload: bytes) -> None:
    survives(payload)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(values)
def test_random_values(value: object) -> None:
    survives(msgpack.packb(value))


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(sorted(TAGS)), st.dictionaries(st.sampled_from(["sequence", "tokens", "verify"]), values), values
)
def test_random_bodies_of_every_type(tag: str, body: dict[str, object], whole: object) -> None:
    for content in (body, whole):
        survives(msgpack.packb({"v": 1, "t": tag, "n": "n", "i": "i", "q": 0, "b": content}))


@settings(max_examples=300)
@given(st.data())
def test_messages_with_one_value_replaced(data: st.DataObject) -> None:
    message = unpacked(data.draw(st.sampled_from(EXAMPLES)))
    target = data.draw(st.sampled_from([message, message["b"]]))
    target[data.draw(st.sampled_from(sorted(target)))] = data.draw(values)
    survives(msgpack.packb(message))


@settings(max_examples=300)
@given(st.data())
def test_messages_with_bytes_changed(data: st.DataObject) -> None:
    payload = bytearray(encode(envelope_of(data.draw(st.sampled_from(EXAMPLES)))))
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    survives(bytes(payload)[: data.draw(st.integers(0, len(payload)))])
    survives(bytes(payload))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x91" * 5000,  # deeper than the unpacker's stack
        b"\xdd\x00\x01\xff\xff" * 1000,  # each claims an array of 131,071 elements
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc7\x00\xff",  # a timestamp without a time
        b"\xa1\xff",  # not UTF-8
        b"\x81\x91\x01\x01",  # an array as a key
    ],
)
def test_hostile_bytes(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(payload)


def test_every_message_has_a_tag() -> None:
    """The round trips above run over TAGS, so a message without a tag would be a gap."""
    assert set(TAGS.values()) == set(typing.get_args(Message))
