"""Rule: every refusal becomes one typed error at the caller, and whose fault it was survives the way."""

from __future__ import annotations

import pytest

from amusd_mp.codec import DecodeError
from amusd_mp.core.messages import ErrorCode, ErrorReply
from amusd_mp.errors import Busy, Mismatch, NotReady, OperationalError, ProtocolError, RequestError, SequenceLost
from amusd_mp.session.refusals import Restarted, to_error, to_reply, unreadable


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_code_is_an_error_of_ours(code: ErrorCode) -> None:
    error = to_error(ErrorReply(code, "why"), "tcp://x:1")
    assert isinstance(error, OperationalError | RequestError)
    assert str(error) == "why"


def test_fields_arrive() -> None:
    busy = to_error(to_reply(Busy("full", retry_after=0.25)), "")
    assert isinstance(busy, Busy)
    assert busy.retry_after == 0.25
    wrong = to_error(to_reply(RequestError("bad", parameter="top_p")), "")
    assert isinstance(wrong, RequestError)
    assert wrong.parameter == "top_p"
    assert isinstance(to_error(to_reply(NotReady("later")), ""), NotReady)
    assert isinstance(to_error(ErrorReply(ErrorCode.RESTARTED, "gone"), ""), Restarted)
    assert issubclass(Restarted, SequenceLost)


def test_ours_and_theirs_change_places_on_the_way() -> None:
    here = Mismatch("differ", field="vocabulary", ours="10", theirs="20")
    there = to_error(to_reply(here), "")
    assert isinstance(there, Mismatch)
    assert (there.field, there.ours, there.theirs) == ("vocabulary", "20", "10")


@pytest.mark.parametrize(
    ("tag", "field", "code", "named"),
    [
        ("submit", "params.top_p", ErrorCode.INVALID, "top_p"),
        ("submit", "params.stop.0", ErrorCode.INVALID, "stop"),
        ("submit", "speculation.lookahead", ErrorCode.INVALID, "lookahead"),
        ("submit", "ids.17", ErrorCode.INVALID, "prompt"),
        ("submit", "messages.0.content", ErrorCode.INVALID, "messages"),
        ("submit", "sequence", ErrorCode.MALFORMED, "sequence"),
        ("submit", "params", ErrorCode.MALFORMED, "params"),
        ("cancel", "sequence", ErrorCode.MALFORMED, "sequence"),
    ],
)
def test_a_bad_value_is_the_callers_and_a_bad_message_the_protocols(
    tag: str, field: str, code: ErrorCode, named: str
) -> None:
    reply = unreadable(DecodeError(f"{field}: is wrong", tag=tag, field=field))
    assert (reply.code, reply.field) == (code, named)


def test_a_misspoken_reply_is_a_protocol_error() -> None:
    assert isinstance(to_error(ErrorReply(ErrorCode.MALFORMED, "?"), ""), ProtocolError)
