"""Messages to bytes and back: msgpack maps on the wire, validated in one step on arrival.

An envelope is `{v: protocol major, t: type tag, n: node, i: incarnation, q: number, b: body}`; a body maps field names
to values, those equal to their default left out. So a peer in any language needs msgpack and `core/messages/` alone
(docs/plain_peer.py is one). Decoding trusts nothing: whatever the bytes are, only `DecodeError` leaves `decode`. The
codec knows no transport, no peer and no state; what a message must satisfy stands in `validation.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, Final, NoReturn, cast, get_args

import msgpack
from pydantic import ValidationError

from amusd_mp.codec.validation import check, validator
from amusd_mp.core.limits import IDENTIFIER, PROTOCOL, PUBLICATION_BYTES, REQUEST_BYTES
from amusd_mp.core.messages import TAGS, Draft, Envelope, Publication
from amusd_mp.errors import ProtocolError

ARRAY: Final = 1 << 17
"""Elements of one array or map: the longest prompt REQUEST_BYTES can hold. Bounds what hostile bytes can allocate."""


class DecodeError(ProtocolError):
    """Bytes that are no valid message of this protocol.

    `tag` is the type they claim ("" if they do not get so far), `field` the dotted path of the field at fault ("" if
    no single one is), `reason` one short line that is safe to log and to send back.
    """

    def __init__(self, reason: str, *, tag: str = "", field: str = "") -> None:
        super().__init__(f"{tag or 'message'}: {reason}")
        self.tag = tag
        self.field = field
        self.reason = reason


class UnknownType(DecodeError):
    """A well-formed envelope of a type this version does not have; to be counted and ignored."""


class OtherProtocol(DecodeError):
    """An envelope of another protocol major; `theirs` is the sender's."""

    def __init__(self, reason: str, *, theirs: int) -> None:
        super().__init__(reason)
        self.theirs = theirs


_DECODERS: Final[dict[object, tuple[Callable[[Any], Any], int]]] = {
    tag: (validator(kind).validate_python, PUBLICATION_BYTES if kind in get_args(Publication) else REQUEST_BYTES)
    for tag, kind in TAGS.items()
}
_TAG_OF: Final = {kind: tag for tag, kind in TAGS.items()}
_DRAFT: Final = (
    b"\x86" + msgpack.packb("v") + msgpack.packb(PROTOCOL) + msgpack.packb("t") + msgpack.packb(_TAG_OF[Draft])
)
_is_identifier: Final = re.compile(rf"[ -.0-~]{{1,{IDENTIFIER}}}").fullmatch

_REQUIRED: Final = object()
"""Equal to no value, so a field without a default is always written."""

_FIELDS: Final[dict[type, tuple[tuple[str, object], ...]]] = {}
"""Names and defaults by dataclass, filled as they are met: `dataclasses.fields` is too slow for every message."""


def _as_map(value: object) -> dict[str, object]:
    kind = type(value)
    known = _FIELDS.get(kind)
    if known is None:
        if kind is int:  # msgpack asks here about any that it cannot write
            raise OverflowError("an integer beyond 64 bits")
        known = _FIELDS[kind] = tuple(
            (each.name, _REQUIRED if each.default is MISSING else each.default)
            for each in fields(cast(Any, value))  # a TypeError here is msgpack's own answer to a foreign object
        )
    return {name: item for name, default in known if (item := getattr(value, name)) != default}


def encode(envelope: Envelope) -> bytes:
    """Return the bytes of a message. Limits are for the transport and the receiver to enforce.

    Raises ValueError or OverflowError for text that is not Unicode and for integers beyond 64 bits.
    """
    body = envelope.body
    message = {
        "v": envelope.protocol,
        "t": _TAG_OF[type(body)],
        "n": envelope.node,
        "i": envelope.incarnation,
        "q": envelope.number,
        "b": _as_map(body),
    }
    return cast(bytes, msgpack.packb(message, default=_as_map))


def decode(payload: bytes) -> Envelope:
    """Return the message in `payload`, valid in every field.

    Raises UnknownType, OtherProtocol or, for everything else that is wrong, DecodeError; nothing but these.
    """
    size = len(payload)
    if size > REQUEST_BYTES:
        raise DecodeError(f"{size} bytes, at most {REQUEST_BYTES} are allowed")
    try:
        message = msgpack.unpackb(
            payload,
            use_list=False,
            max_str_len=size,
            max_bin_len=size,
            max_array_len=min(size, ARRAY),
            max_map_len=min(size, ARRAY),
            max_ext_len=size,
        )
    except Exception as error:  # msgpack documents no closed set, and hostile bytes must not find its gaps
        raise DecodeError(f"not msgpack ({type(error).__name__})") from None
    if type(message) is not dict:
        raise DecodeError("not a map")
    tag, number, node, incarnation = message.get("t"), message.get("q"), message.get("n"), message.get("i")
    protocol = message.get("v")
    if type(protocol) is not int:
        raise DecodeError("no protocol version", field="v")
    if protocol != PROTOCOL:
        raise OtherProtocol(f"protocol {protocol}, this node speaks {PROTOCOL}", theirs=protocol)
    if type(tag) is not str:
        raise DecodeError("no type tag", field="t")
    if tag not in _DECODERS:
        raise UnknownType("unknown message type", tag=ascii(tag)[1:-1][:IDENTIFIER])
    if type(node) is not str or not _is_identifier(node):
        raise DecodeError("no valid node id", tag=tag, field="n")
    if type(incarnation) is not str or not _is_identifier(incarnation):
        raise DecodeError("no valid incarnation", tag=tag, field="i")
    if type(number) is not int or not 0 <= number < 1 << 63:
        raise DecodeError("no valid sequence number", tag=tag, field="q")
    validate, limit = _DECODERS[tag]
    if size > limit:
        raise DecodeError(f"{size} bytes, a publication has at most {limit}", tag=tag)
    content = message.get("b")
    if type(content) is not dict:
        raise DecodeError("no body", tag=tag, field="b")
    try:
        body = validate(content)
    except ValidationError as error:
        _refuse(tag, error)
    if complaint := check(body):
        raise DecodeError(complaint, tag=tag)
    return Envelope(node, incarnation, number, body, protocol)


def holds_all(payload: bytes) -> bool:
    """Return True for a `draft` message, as this codec writes it: each says all that those before it said.

    Reads a few bytes, so that who finds many can leave all but the last unread. A peer that writes its map in another
    order is not recognised, which costs time and nothing else.
    """
    return payload.startswith(_DRAFT)


def _refuse(tag: str, error: ValidationError) -> NoReturn:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    path = ".".join(str(step) for step in first["loc"])
    raise DecodeError(f"{path}: {first['msg']}"[:200], tag=tag, field=path) from None
