"""Rule: every message survives the wire unchanged, and says no more there than it has to."""

from __future__ import annotations

import dataclasses
import typing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from messages import (
    COMMITTED,
    DRAFT,
    SUBMIT,
    envelope_of,
    envelopes,
    of_message,
    unpacked,
)

from amusd_mp.codec import decode, encode
from amusd_mp.core.messages import (
    TAGS,
    Counts,
    Finish,
    Message,
    Submit,
)
from amusd_mp.core.params import Speculation, Strategy


@pytest.mark.parametrize("tag", TAGS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_every_message_survives_the_wire(tag: str, data: st.DataObject) -> None:
    envelope = data.draw(envelopes(of_message(TAGS[tag])))
    received = decode(encode(envelope))
    assert received == envelope
    assert type(received.body) is TAGS[tag]
    assert encode(received) == encode(envelope)


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


def test_every_message_has_a_tag() -> None:
    """The round trips above run over TAGS, so a message without a tag would be a gap."""
    assert set(TAGS.values()) == set(typing.get_args(Message))
