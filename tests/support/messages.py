"""Messages for tests of the codec: drawn from their types, and one of each kind written down."""

from __future__ import annotations

import dataclasses
import enum
import math
import types
import typing
from typing import Any

import msgpack
from hypothesis import strategies as st

from amusd_mp.codec import encode
from amusd_mp.core.limits import (
    AGES,
    DIGEST_PAGES,
    EVENTS,
    LOGPROBS,
    LOOKAHEAD_MAX,
    STOP_STRINGS,
)
from amusd_mp.core.messages import (
    Barrier,
    Beat,
    Committed,
    Draft,
    Envelope,
    ErrorCode,
    ErrorReply,
    Hello,
    Message,
    NodeState,
    Opened,
    Renew,
    StepTrace,
    Submit,
    Sync,
    SyncPage,
    Tokenize,
    Window,
)
from amusd_mp.core.model import Fingerprint, ModelCard
from amusd_mp.core.params import GenerationParams, Speculation
from amusd_mp.core.step import TokenLogprob

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
    **dict.fromkeys(["sent", "began", "ended", "resumed_at", "guessed_at"], st.floats(-AGES, AGES)),
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
        values["prepared"] %= EVENTS
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
