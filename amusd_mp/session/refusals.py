"""Refusals on the wire and as exceptions: which `ErrorReply` becomes which error at the caller, and back."""

from __future__ import annotations

from amusd_mp.codec import DecodeError
from amusd_mp.core.messages import ErrorCode, ErrorReply
from amusd_mp.errors import (
    AccessDenied,
    AmusdError,
    Busy,
    Mismatch,
    NotReady,
    ProtocolError,
    RemoteError,
    RequestError,
    SequenceLost,
)

PROMPTS = {"text": "prompt", "ids": "prompt", "resumed": "prompt", "messages": "messages"}
"""Fields of a submit that hold what is to be continued, and what callers call them."""


class Restarted(SequenceLost):
    """The verify node that was meant is gone; another life answers at its address."""


def to_error(reply: ErrorReply, address: str) -> AmusdError:
    """Return the exception that a refusal is for its caller."""
    text = reply.message
    match reply.code:
        case ErrorCode.BUSY:
            return Busy(text, retry_after=reply.retry_after if reply.retry_after is not None else 1.0)
        case ErrorCode.NOT_READY:
            return NotReady(text)
        case ErrorCode.INVALID | ErrorCode.CONFLICT | ErrorCode.CANCELLED:
            return RequestError(text, parameter=reply.field or None)
        case ErrorCode.UNKNOWN:
            return SequenceLost(text)
        case ErrorCode.RESTARTED:
            return Restarted(text)
        case ErrorCode.MISMATCH:
            # the replier's own value is `ours` on the wire; for the caller the two change places
            return Mismatch(text, field=reply.field, ours=reply.theirs, theirs=reply.ours)
        case ErrorCode.FORBIDDEN:
            return AccessDenied(text, address=address)
        case ErrorCode.MALFORMED | ErrorCode.PROTOCOL:
            return ProtocolError(text)
        case ErrorCode.INTERNAL:
            return RemoteError(text, address=address)


def unreadable(error: DecodeError) -> ErrorReply:
    """Return the refusal of a request whose bytes are no valid message.

    Where it is a parameter's value that makes them invalid, that is the caller's matter and not the protocol's.
    """
    table, _, rest = error.field.partition(".")
    if error.tag == "submit" and table in ("params", "speculation") and rest:
        name = rest.partition(".")[0]
        return ErrorReply(ErrorCode.INVALID, error.reason.removeprefix(f"{table}."), field=name)
    if error.tag in ("submit", "tokenize") and table in PROMPTS:
        return ErrorReply(ErrorCode.INVALID, error.reason, field=PROMPTS[table])
    return ErrorReply(ErrorCode.MALFORMED, str(error), field=error.field)


def to_reply(error: Exception) -> ErrorReply:
    """Return the refusal that an exception raised while handling a request becomes."""
    match error:
        case RequestError():
            return ErrorReply(ErrorCode.INVALID, str(error), field=error.parameter or "")
        case Busy():
            return ErrorReply(ErrorCode.BUSY, str(error), retry_after=error.retry_after)
        case NotReady():
            return ErrorReply(ErrorCode.NOT_READY, str(error))
        case Mismatch():
            return ErrorReply(ErrorCode.MISMATCH, str(error), field=error.field, ours=error.ours, theirs=error.theirs)
        case ProtocolError():
            return ErrorReply(ErrorCode.MALFORMED, str(error))
        case _:
            return ErrorReply(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}")
