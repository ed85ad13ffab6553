"""Rule: nothing but `DecodeError` ever comes out of hostile bytes."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from messages import (
    EXAMPLES,
    TEXT,
    envelope_of,
    unpacked,
)

from amusd_mp.codec import DecodeError, decode, encode
from amusd_mp.core.messages import (
    TAGS,
)


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
