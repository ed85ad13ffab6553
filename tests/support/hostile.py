"""Hostile payloads made from real ones: what a broken, old, foreign or malicious peer may send.

A `Mutator` draws from recorded messages and one seeded source, so a run repeats as far as its recordings do; payloads
of a failing batch are kept by whoever sends them. It knows the envelope's shape, no socket and no node.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgpack

from amusd_mp.core.messages import TAGS

VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, 1, -1, 255, 2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)),
    *(0.0, -0.0, 1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf"), 0.5),
    *("", "a", "x" * 41, "x" * 5000, "\x00", "\x1b[2J\n", "v/", "\u00fc/\U0001f600", "draft", "amusd"),
    *(b"", b"\xff" * 9, (), [0] * 300, [2**31 - 1] * 70, ["s"] * 40, {}, {"a": 1}, {1: 2}, [[1, 2], [3]]),
    *(msgpack.ExtType(5, b"abc"), msgpack.Timestamp(1, 2), [None], [[]], {"tokens": [1]}),
)
"""What a field may hold that should not: ill-typed, extreme, not finite, out of the vocabulary, too long."""

HEADERS: Final = (
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\x7f\xff\xff\xff",
    b"\xc1",
)
"""Lengths that promise gigabytes, and the one byte that msgpack never uses."""


LONGEST: Final = 100_000
"""Leaves of a list or characters of a text that is made longer: beyond what one message may carry."""


class Doubled(dict[Any, Any]):
    """A map that is packed with each of its fields twice, the second time with another value."""


def pack(value: Any) -> bytes:
    """Return msgpack of anything `Mutator` makes, doubled fields included."""
    if isinstance(value, Doubled):
        packer = msgpack.Packer(autoreset=False)
        packer.pack_map_header(2 * len(value))
        body = b"".join(pack(key) + pack(item) + pack(key) + pack(other) for key, (item, other) in value.items())
        return bytes(packer.bytes()) + body
    if isinstance(value, dict) and any(isinstance(item, Doubled) for item in value.values()):
        packer = msgpack.Packer(autoreset=False)
        packer.pack_map_header(len(value))
        return bytes(packer.bytes()) + b"".join(pack(key) + pack(item) for key, item in value.items())
    return bytes(msgpack.packb(value))


def weight(value: Any) -> int:
    """Return how many leaves a value has, a text's characters counted one by one; at least 1."""
    if isinstance(value, dict):
        return max(1, sum(map(weight, value.values())))
    if isinstance(value, list):
        return max(1, sum(map(weight, value)))
    return max(1, len(value)) if isinstance(value, (str, bytes)) else 1


class Mutator:
    """Makes hostile payloads from one seeded source."""

    def __init__(self, source: random.Random) -> None:
        self.source = source
        self._ways: Sequence[tuple[Callable[[Any], Any], int]] = (
            (self._a_value, 30),
            (self._an_identity, 6),
            (self._a_type, 5),
            (self._a_version, 3),
            (self._without, 8),
            (self._with_more, 5),
            (self._longer, 8),
            (self._deeper, 2),
        )

    def payload(self, real: bytes) -> bytes:
        """Return a hostile payload: now and then random bytes, else a real message changed in content or in bytes."""
        dice = self.source.random()
        if dice < 0.08:
            return self.source.randbytes(self.source.choice((0, 1, 2, 7, 40, 300, 3000)))
        if dice < 0.30:
            return self._bytes(real)
        return self.changed(real)

    def changed(self, real: bytes) -> bytes:
        """Return a real message with its content changed, well-formed msgpack throughout."""
        message = msgpack.unpackb(real, strict_map_key=False)
        for _ in range(self.source.choice((1, 1, 1, 2, 4))):
            if not isinstance(message, dict):
                break
            (way,) = self.source.choices([way for way, _ in self._ways], [weight for _, weight in self._ways])
            message = way(message)
        if isinstance(message, dict) and self.source.random() < 0.03:
            message = self._doubled(message)
        return pack(message)

    # ------------------------------------------------------------------------------------------ bytes

    def _bytes(self, real: bytes) -> bytes:
        out = bytearray(real)
        for _ in range(self.source.choice((1, 1, 2, 8))):
            at = self.source.randrange(len(out) + 1)
            match self.source.randrange(6):
                case 0:
                    out = out[:at]
                case 1 if out:
                    out[at % len(out)] ^= 1 << self.source.randrange(8)
                case 2:
                    out[at:at] = self.source.randbytes(self.source.randrange(1, 20))
                case 3:
                    out[at:at] = self.source.choice(HEADERS)
                case 4:
                    out[at:at] = b"\x91" * self.source.choice((10, 600, 3000))
                case _:
                    out += real[at:]
        return bytes(out)

    # ------------------------------------------------------------------------------------------ content

    def _place(self, message: dict[Any, Any]) -> tuple[Any, Any]:
        """Return a container in the message and one of its keys or indexes, the deeper ones not less likely."""
        found: list[tuple[Any, Any]] = []

        def visit(value: Any, depth: int) -> None:
            keys = list(value) if isinstance(value, dict) else list(range(min(len(value), 8)))
            for key in keys:
                found.append((value, key))
                if isinstance(value[key], (dict, list)) and depth < 6:
                    visit(value[key], depth + 1)

        visit(message, 0)
        return self.source.choice(found) if found else (message, "b")

    def _a_value(self, message: dict[Any, Any]) -> Any:
        container, key = self._place(message)
        old = container[key] if not isinstance(container, dict) or key in container else None
        if isinstance(old, int) and not isinstance(old, bool) and self.source.random() < 0.4:
            container[key] = min(2**64 - 1, max(-(2**63), old + self.source.choice((-1, 1, 7, 10**6))))
        else:
            container[key] = self._value()
        return message

    def _value(self) -> Any:
        return copy.deepcopy(self.source.choice(VALUES))

    def _an_identity(self, message: dict[Any, Any]) -> Any:
        message[self.source.choice("ni")] = f"{self.source.getrandbits(64):016x}"
        return message

    def _a_type(self, message: dict[Any, Any]) -> Any:
        message["t"] = self.source.choice([*TAGS, "nothing", ""])
        return message

    def _a_version(self, message: dict[Any, Any]) -> Any:
        message["v"] = self.source.choice((0, 2, -1, 2**63, "1", 1.0, None))
        return message

    def _without(self, message: dict[Any, Any]) -> Any:
        container, key = self._place(message)
        if isinstance(container, list) or key in container:
            del container[key]
        return message

    def _with_more(self, message: dict[Any, Any]) -> Any:
        body = message.get("b")
        if isinstance(body, dict):
            body[self.source.choice(("more", "sequence", "tokens", "verify", 7, ""))] = self._value()
        return message

    def _longer(self, message: dict[Any, Any]) -> Any:
        """Repeat what a list or text holds, up to and beyond what one message may carry."""
        container, key = self._place(message)
        old = container[key] if not isinstance(container, dict) or key in container else None
        if isinstance(old, (list, str)) and old:
            most = self.source.choice((50, 50, 50, 500, 500, 5000, 70_000))
            most = min(most, LONGEST * len(old) // weight(old))  # long lists of long lists would fill the memory here
            if most > len(old):
                more = (old * (most // len(old) + 1))[:most]
                container[key] = more if isinstance(more, str) else [copy.deepcopy(each) for each in more]
                # copies: of a list that stands in many places, a longer one would fill the memory as well
        return message

    def _deeper(self, message: dict[Any, Any]) -> Any:
        container, key = self._place(message)
        nest: Any = 1
        for _ in range(self.source.choice((5, 50, 200))):
            nest = [nest] if self.source.random() < 0.5 else {"b": nest}
        container[key] = nest
        return message

    def _doubled(self, message: dict[Any, Any]) -> Any:
        doubled = Doubled({key: (item, self.source.choice(VALUES)) for key, item in message.items()})
        return doubled if self.source.random() < 0.5 else {**message, "b": doubled}

    # ------------------------------------------------------------------------------------------ frames

    def frames(self, frames: list[bytes]) -> list[bytes]:
        """Return frames as no peer sends them: too few, too many, empty ones between."""
        source, out = self.source, list(frames)
        for _ in range(source.randrange(1, 4)):
            at = source.randrange(len(out) + 1)
            match source.randrange(4):
                case 0 if len(out) > 1:
                    del out[at % len(out)]
                case 1:
                    out.insert(at, b"")
                case 2:
                    out.insert(at, source.randbytes(source.choice((1, 8, 9, 200))))
                case _:
                    out *= source.choice((1, 2))
        return out[:40]
