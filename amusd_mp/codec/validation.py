"""What each message must satisfy when it arrives: types, limits, and what its fields owe each other.

One pydantic validator per message type, derived from its dataclass, so that the core stays free of any library. It is
tightened in two ways. `RULES` says what a field of a given name may hold, wherever it appears; `CHECKS` compares the
fields of one message. Nothing is coerced: no number from a string, no integer from a boolean. Unknown fields are
ignored, which is how a newer peer may say more. This module knows no bytes; the codec applies it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from pydantic import TypeAdapter
from pydantic_core import CoreSchema, SchemaValidator

from amusd_mp.core.limits import (
    AGES,
    DIGEST_PAGE,
    DIGEST_PAGES,
    EVENTS,
    IDENTIFIER,
    KEPT_SEQUENCES,
    LOGPROBS,
    LOOKAHEAD_MAX,
    NAME_CHARACTERS,
    STOP_CHARACTERS,
    STOP_STRINGS,
    TOPIC_BYTES,
    WINDOW_TREE,
)
from amusd_mp.core.messages import (
    Beat,
    Committed,
    Draft,
    Hello,
    Message,
    StepTrace,
    Submit,
    SyncPage,
    Tokenize,
    Window,
)

Leaf = Mapping[str, Mapping[str, object]]
"""Constraints by the pydantic schema type ("int", "float", "str", "tuple") that they belong to."""

_ANY: Final[Leaf] = {"int": {"ge": 0, "lt": 1 << 63}, "float": {"allow_inf_nan": False}}
_IDENTIFIER: Final[Leaf] = {"str": {"pattern": rf"^[ -.0-~]{{1,{IDENTIFIER}}}$"}}  # printable ASCII but "/"
_OPTIONAL_IDENTIFIER: Final[Leaf] = {"str": {"pattern": rf"^[ -.0-~]{{0,{IDENTIFIER}}}$"}}
_TOPIC: Final[Leaf] = {"str": {"pattern": rf"^[ -~]{{0,{TOPIC_BYTES}}}$"}}
_TOKEN: Final[Leaf] = {"int": {"ge": 0, "lt": 1 << 31}}
_NAME: Final[Leaf] = {"str": {"max_length": NAME_CHARACTERS}}
_CLOCK: Final[Leaf] = {"float": {"ge": -AGES, "le": AGES, "allow_inf_nan": False}}
_TIME: Final[Leaf] = {"float": {"ge": 0.0, "le": AGES, "allow_inf_nan": False}}
_PERIOD: Final[Leaf] = {"float": {"gt": 0.0, "allow_inf_nan": False}}
_SHARE: Final[Leaf] = {"float": {"ge": 0.0, "le": 1.0, "allow_inf_nan": False}}
_LOGPROB: Final[Leaf] = {"float": {"lt": math.inf, "allow_inf_nan": True}}  # -inf is an honest one, NaN is refused

RULES: Final[Mapping[str, Leaf]] = {
    "sequence": _IDENTIFIER,
    "sequences": {**_IDENTIFIER, "tuple": {"max_length": KEPT_SEQUENCES}},
    "unknown": {**_IDENTIFIER, "tuple": {"max_length": KEPT_SEQUENCES}},
    "client": _IDENTIFIER,
    "node": _IDENTIFIER,
    "incarnation": _IDENTIFIER,
    "verify": _IDENTIFIER,
    "nonce": _IDENTIFIER,
    "role": _IDENTIFIER,
    "topic": _TOPIC,
    "tokens": _TOKEN,
    "ids": _TOKEN,
    "resumed": _TOKEN,
    "rejected": _TOKEN,
    "eos_ids": _TOKEN,
    "special_ids": _TOKEN,
    "stop_token_ids": _TOKEN,
    "logit_bias": _TOKEN,
    "top": {**_TOKEN, **_LOGPROB, "tuple": {"max_length": LOGPROBS + 1}},
    "logprob": _LOGPROB,
    "logprobs": {"int": {"ge": 0, "le": LOGPROBS}},
    "parents": {"int": {"ge": -1, "lt": 1 << 31}},
    "confidence": {"int": {"ge": 0, "le": 100}},
    "origins": {"str": {"pattern": "^[arb-]*$"}},
    "digest": {"tuple": {"max_length": DIGEST_PAGE}},
    "pages": {"int": {"ge": 1, "le": DIGEST_PAGES}},
    "lookahead": {"int": {"ge": 1, "le": LOOKAHEAD_MAX}},
    "seed": {"int": {"ge": 0, "lt": 1 << 64}},
    "stop": {"tuple": {"max_length": STOP_STRINGS}, "str": {"min_length": 1, "max_length": STOP_CHARACTERS}},
    "temperature": {"float": {"ge": 0.0, "allow_inf_nan": False}},
    "top_p": {"float": {"gt": 0.0, "le": 1.0}},
    "min_p": _SHARE,
    "repetition_penalty": _PERIOD,
    "acceptance": _SHARE,
    "name": _NAME,
    "vocabulary_hash": _NAME,
    "device": _NAME,
    "dtype": _NAME,
    "attention": _NAME,
    "seconds": _TIME,
    "sent": _CLOCK,
    "resumed_at": _CLOCK,
    "guessed_at": _CLOCK,
    "began": _CLOCK,
    "ended": _CLOCK,
    "step_age": _TIME,
    "retry_after": _TIME,
    "beat": _PERIOD,
    "liveness": _PERIOD,
    "lease": _PERIOD,
}
"""What a field of this name may hold, whichever message it is in. All others: finite floats, integers from 0."""


def _tighten(schema: Any, rule: Leaf, optional: bool = False) -> Any:
    """Return a core schema that coerces nothing and holds every leaf to its rule.

    Strictness goes onto each node, because a dataclass node's own config would hide a global one; and not onto the
    dataclass and enum nodes, which arrive as maps and strings. `optional` says that an empty default makes an empty
    string legal.
    """
    if not isinstance(schema, dict):
        return schema
    kind = schema["type"]
    if kind in ("dataclass", "definitions", "nullable"):
        tightened = {**schema, "schema": _tighten(schema["schema"], rule)}
        if kind == "definitions":
            tightened["definitions"] = [_tighten(each, {}) for each in schema["definitions"]]
        return tightened
    if kind == "dataclass-args":
        members = [
            {**each, "schema": _tighten(each["schema"], RULES.get(each["name"], {}))} for each in schema["fields"]
        ]
        return {**schema, "fields": members}
    if kind == "default":
        return {**schema, "schema": _tighten(schema["schema"], rule, optional=schema.get("default") == "")}
    if kind == "tuple":
        items = [_tighten(each, rule) for each in schema["items_schema"]]
        # Without fail_fast, a hundred thousand wrong elements would make a hundred thousand error objects.
        return {**schema, "strict": True, "fail_fast": True, **rule.get("tuple", {}), "items_schema": items}
    if kind in ("int", "float", "str", "bool"):
        if optional and rule is _IDENTIFIER:
            rule = _OPTIONAL_IDENTIFIER
        return {**schema, "strict": True, **rule.get(kind, _ANY.get(kind, {}))}
    return schema  # enum, and references to what "definitions" holds


def _check_draft(body: Draft) -> str:
    return next((complaint for window in body.windows if (complaint := _check_window(window))), "")


def _check_window(window: Window) -> str:
    if len(window.tokens) > WINDOW_TREE:
        return f"a window of {len(window.tokens)} guesses; at most {WINDOW_TREE} are allowed"
    if max(window.drafted, window.prepared, window.rollbacks) >= EVENTS:
        return f"nobody drafts {EVENTS} tokens for one sequence"
    if window.confidence and len(window.confidence) != len(window.tokens):
        return "confidence and tokens differ in length"
    if window.parents is None:
        return ""
    if len(window.parents) != len(window.tokens):
        return "parents and tokens differ in length"
    if any(parent >= index for index, parent in enumerate(window.parents)):
        return "a parent must come before its child"
    return ""


def _check_committed(body: Committed) -> str:
    if body.start + len(body.tokens) != body.length:
        return "start and the number of tokens do not end at length"
    if len(body.origins) != len(body.tokens):
        return "origins and tokens differ in length"
    if body.logprobs is not None and len(body.logprobs) != len(body.tokens):
        return "logprobs and tokens differ in length"
    if body.ends and len(body.ends) != len(body.tokens):
        return "ends and tokens differ in length"
    return "" if (body.finish is None) == (body.counts is None) else "finish and counts come together"


def _check_page(body: SyncPage) -> str:
    end = body.start + len(body.tokens)
    outputs = max(0, end - max(body.start, body.prompt_length))
    if end > body.length:
        return "tokens run past length"
    if len(body.origins) != outputs:
        return "origins and output tokens differ in length"
    if body.logprobs is not None and len(body.logprobs) != outputs:
        return "logprobs and output tokens differ in length"
    if body.ends and len(body.ends) != outputs:
        return "ends and output tokens differ in length"
    return "" if (body.finish is None) == (body.counts is None) else "finish and counts come together"


def _check_submit(body: Submit) -> str:
    given = [each for each in (body.text, body.ids, body.messages) if each is not None]
    return "" if len(given) == 1 else "exactly one of text, ids and messages must be given"


def _check_tokenize(body: Tokenize) -> str:
    return "" if (body.text is None) != (body.messages is None) else "exactly one of text and messages must be given"


def _check_beat(body: Beat) -> str:
    return "" if body.page < body.pages else "page is not below pages"


def _check_hello(body: Hello) -> str:
    return "" if body.protocols[0] <= body.protocols[1] else "the lowest protocol is above the highest"


def _check_trace(body: StepTrace) -> str:
    return "" if body.began <= body.ended else "a step ended before it began"


CHECKS: Final[Mapping[type[Message], Callable[[Any], str]]] = {
    Draft: _check_draft,
    Committed: _check_committed,
    SyncPage: _check_page,
    Submit: _check_submit,
    Tokenize: _check_tokenize,
    Beat: _check_beat,
    Hello: _check_hello,
    StepTrace: _check_trace,
}
"""What the fields of one message owe each other; each check returns its complaint, or ""."""


def validator(kind: type[Message]) -> SchemaValidator:
    """Return what turns a map into a message of `kind`, or raises pydantic's ValidationError."""
    return SchemaValidator(cast(CoreSchema, _tighten(TypeAdapter(kind).core_schema, {})))


def check(body: Message) -> str:
    """Return what is wrong between the fields of a message that is right in each, "" if nothing is."""
    rule = CHECKS.get(type(body))
    return rule(body) if rule else ""
