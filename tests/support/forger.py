"""What an attacker of a verify node sends: messages that were recorded, changed a little or a lot.

One method for each lane of `attacker`, which says what the lanes are. None of them asks for what would be obeyed.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgpack
from hostile import Mutator

from amusd_mp.codec import DecodeError, decode
from amusd_mp.core.limits import PUBLICATION_BYTES, REQUEST_BYTES
from amusd_mp.core.messages import Hello

DOOMED: Final = 8
"""The peer that sends frames of over twice the limit: the connection is cut for them, with all that is in flight."""

Frames = list[bytes]


class Forger:
    """Makes one message at a time, from `records` by kind: of which peer of its lane, and its frames, or none.

    `verify` is the life of the verify node, once it is known.
    """

    def __init__(self, seed: int, records: Mapping[str, Sequence[bytes]]) -> None:
        self.verify = ""
        self._seed = seed
        self._records = records

    def requests(self, mutator: Mutator) -> tuple[int, Frames] | None:
        source = mutator.source
        real = msgpack.unpackb(source.choice(self._records["requests"]), strict_map_key=False)
        peer = source.randrange(8)
        body = real["b"]
        real["n"], real["i"] = f"attacker-{peer}", f"life-{self._seed}-{peer}"
        # What is well-formed must not concern others' sequences: to cancel those is an order and no attack.
        own = f"own-{self._seed}-{source.randrange(40)}"
        if "sequence" in body:
            body["sequence"] = own
        if "sequences" in body:
            body["sequences"] = [own]
        if real["t"] == "submit":
            body["client"] = f"attacker-{peer}"
            body["params"]["max_tokens"] = source.randrange(1, 4)
        payload = mutator.payload(pack_plain(real))
        if b"drain" in payload or self._succeeds_the_draft(payload):
            return None  # an order that would be obeyed
        frames = [b"Q" + source.randbytes(8), b"", payload]
        if len(payload) > 2 * REQUEST_BYTES:
            return DOOMED, frames
        return peer, mutator.frames(frames) if source.random() < 0.03 else frames

    def _succeeds_the_draft(self, payload: bytes) -> bool:
        """Return whether this says hello under the real draft's name: that ends its life, for the sake of a new one."""
        try:
            envelope = decode(payload)
        except DecodeError:
            return False
        names = {msgpack.unpackb(each, strict_map_key=False)["n"] for each in list(self._records["drafts"])[-1:]}
        return isinstance(envelope.body, Hello) and envelope.node in names

    def windows(self, mutator: Mutator) -> tuple[int, Frames] | None:
        source = mutator.source
        if source.random() < 0.02:
            return 0, self._useless(source)
        real = msgpack.unpackb(source.choice(self._records["windows"]), strict_map_key=False)
        dice = source.random()
        if dice < 0.6:
            peer = source.randrange(3)
            real["n"], real["i"] = f"evil-{peer}", f"evil-{self._seed}-{peer}"
            real["q"] = source.randrange(1 << 40)
        elif dice < 0.8:
            real["i"] = f"{source.getrandbits(64):016x}"
        else:
            real["q"] = max(0, real["q"] + source.randrange(-3, 9))  # the real draft's own, older or newer
        frames = [b"d/" + source.choice((b"x", b"x", b"", real["i"].encode()) * 5 + (b"\xff\xfe", b"y" * 119)), b""]
        frames[1] = mutator.payload(pack_plain(real))
        if len(frames[1]) > 2 * PUBLICATION_BYTES:
            return DOOMED, frames
        return 0, [frames[0], *mutator.frames(frames)[1:]] if source.random() < 0.03 else frames

    def _useless(self, source: random.Random) -> Frames:
        """Return a flawless message about a sequence that is nobody's, alone on its topic: none supersedes it."""
        real = msgpack.unpackb(source.choice(self._records["drafts"]), strict_map_key=False)
        real["n"], real["i"] = "evil-0", f"evil-{self._seed}-0"
        for window in real["b"]["windows"]:
            window["sequence"] = "nobody"
        return [b"d/" + source.randbytes(8).hex().encode(), pack_plain(real)]

    def subscriptions(self, mutator: Mutator) -> tuple[int, Frames]:
        source = mutator.source
        what = source.choice((b"v/", b"beat/", b"trace/", b"", source.randbytes(source.randrange(100))))
        first = source.choice((b"\x01", b"\x01", b"\x00", b"\x00", b"\x02", b"", b"\x01\x01"))
        frames = [first + what]
        return source.randrange(4), mutator.frames(frames) if source.random() < 0.1 else frames

    def publications(self, mutator: Mutator) -> tuple[int, Frames] | None:
        source = mutator.source
        real = source.choice(self._records["publications"])
        topics = [b"beat/", b"v/", b"beat/\xff", b"v/" + b"x" * 110]
        topics += [f"v/{client}/{source.getrandbits(32):x}".encode() for client in self._clients()]
        payload = (
            mutator.payload(real)[: 2 * PUBLICATION_BYTES] if source.random() < 0.9 else real
        )  # or as it was, late
        if payload != real:
            payload = self._not_of_this_life(payload, mutator)
        frames = [source.choice(topics), payload]
        if source.random() < 0.02:
            frames = [frames[0], *mutator.frames(frames)[1:]]
        if source.random() < 0.001:
            frames = [frames[0], bytes(70_000)]
        return 0, frames

    def _clients(self) -> list[str]:
        lives = {message["i"] for message in map(msgpack.unpackb, list(self._records["requests"])[-20:])}
        return sorted(life for life in lives if isinstance(life, str))

    def _not_of_this_life(self, payload: bytes, mutator: Mutator) -> bytes:
        """Return the payload, from another life where it could pass for the verify node's own word."""
        try:
            envelope = decode(payload)
        except DecodeError:
            return payload
        if envelope.incarnation != self.verify:
            return payload
        message = msgpack.unpackb(payload, strict_map_key=False)
        return bytes(msgpack.packb({**message, "i": f"{mutator.source.getrandbits(64):016x}"}))


def pack_plain(message: dict[str, Any]) -> bytes:
    return bytes(msgpack.packb(message))
