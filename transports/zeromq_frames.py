"""The frames on the wire: plain REQ/REP and PUB/SUB framing, with one addition a plain peer never notices.

Request (as a ROUTER reads it, after the peer's routing id): envelope frames, an empty frame, the payload. A plain
`zmq.REQ` sends no envelope and one with REQ_CORRELATE a frame of four bytes; both get their envelope back and the reply
as the one message they read. Our dialler's envelope ends with a tag and its request's number, nine bytes: `Q` for the
question, and the listener answers with `R` for the reply or `E` for the text of a failed handler. A plain peer gets a
failure as a message that reads `error: ` and the text.

Publication: two frames, topic in UTF-8 and payload.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from amusd_mp.transport import Received, TransportOptions

QUESTION: Final = b"Q"
REPLY: Final = b"R"
ERROR: Final = b"E"
PLAIN_ERROR: Final = b"error: "

_NUMBER: Final = struct.Struct(">Q")
_ENVELOPE: Final = 8
"""Routing frames a request may bring: our own, and one for each broker on the way."""


class Request(NamedTuple):
    """One request as it arrived: where the reply goes, and the payload."""

    envelope: list[bytes]
    payload: bytes


class Answer(NamedTuple):
    """One reply as the dialler reads it."""

    number: int
    payload: bytes
    failed: bool


def question(number: int, payload: bytes) -> list[bytes]:
    """Return the frames a DEALER sends for request `number`."""
    return [QUESTION + _NUMBER.pack(number), b"", payload]


def read_question(frames: list[bytes]) -> Request | None:
    """Return the request in what a ROUTER read, or None if the frames are not one."""
    if len(frames) < 3 or len(frames) > _ENVELOPE + 2 or frames[-2] != b"" or b"" in frames[1:-2]:
        return None
    return Request(frames[:-2], frames[-1])


def answer(envelope: list[bytes], payload: bytes, failed: bool) -> list[bytes]:
    """Return the frames a ROUTER sends back. `payload` is the failure's text if `failed`."""
    last = envelope[-1]
    if len(envelope) > 1 and len(last) == 1 + _NUMBER.size and last.startswith(QUESTION):
        return [*envelope[:-1], (ERROR if failed else REPLY) + last[1:], b"", payload]
    return [*envelope, b"", PLAIN_ERROR + payload if failed else payload]


def read_answer(frames: list[bytes]) -> Answer | None:
    """Return the reply in what a DEALER read, or None if the frames are not one."""
    if len(frames) != 3 or frames[1] != b"" or len(frames[0]) != 1 + _NUMBER.size:
        return None
    tag = frames[0][:1]
    if tag not in (REPLY, ERROR):
        return None
    return Answer(_NUMBER.unpack(frames[0][1:])[0], frames[2], tag == ERROR)


def read_publication(frames: list[bytes], peer: str | None, options: TransportOptions) -> Received | None:
    """Return the publication in what a SUB read, or None if it is malformed or over a limit."""
    if len(frames) != 2 or len(frames[0]) > options.max_topic or len(frames[1]) > options.max_publication:
        return None
    try:
        return Received(frames[0].decode(), frames[1], peer)
    except UnicodeDecodeError:
        return None
