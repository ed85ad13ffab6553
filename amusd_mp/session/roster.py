"""Who is known to a hub: the lives that said hello, those that may come back, and those that may not.

    hello ─► present ─► let go (silent, no room, its key revoked) ─► present again with its next hello
                └───────────┴─► retired for good, once another life of the same node says hello

A life is an incarnation and the key it came with (`peer.life_of`). Name, role and key make a node; one of its lives at
a time is present, and the last that was let go is remembered, so that whoever returns from a cut line finds itself
retired and not its successor. It knows no socket, and of messages `hello` alone; times are seconds of one clock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from amusd_mp.core import limits
from amusd_mp.core.ledger import Refusal
from amusd_mp.core.messages import Envelope, ErrorCode, Hello
from amusd_mp.session.peer import Peer, life_of
from amusd_mp.session.pulse import Standstill

log = logging.getLogger(__name__)

KEPT: Final = 4096
"""Lives remembered that were let go, and as many retired ones. Random ids never return, so this only bounds memory."""


class Roster:
    """`peers` are those present, by life; `on_leave` is told of each that is so no more."""

    def __init__(self, on_leave: Callable[[Peer], None]) -> None:
        self.peers: dict[str, Peer] = {}
        self._on_leave = on_leave
        self._gone: dict[tuple[str, str, str | None], str] = {}  # by owner: the life that was let go last
        self._retired: dict[str, None] = {}
        self._standstill = Standstill()

    def __repr__(self) -> str:
        return f"<Roster {len(self.peers)} present, {len(self._gone)} let go, {len(self._retired)} retired>"

    @property
    def drafts(self) -> list[Peer]:
        """The drafts that are present."""
        return [peer for peer in self.peers.values() if peer.role == "draft"]

    def find(self, incarnation: str, key: str | None) -> Peer | None:
        """Return who is present with this incarnation and this key."""
        return self.peers.get(life_of(incarnation, key))

    def check(self, envelope: Envelope, key: str | None) -> None:
        """Raise Refusal for a life that is retired."""
        if life_of(envelope.incarnation, key) in self._retired:
            raise Refusal(ErrorCode.FORBIDDEN, f"{envelope.node} has a newer life; this one is retired")

    # ------------------------------------------------------------------------------------------ who comes

    def greet(self, envelope: Envelope, hello: Hello, key: str | None, now: float) -> None:
        """Take a hello of a life that is not retired: it is present from now on, and the life before it never again.

        Raises Refusal where it would be one draft too many.
        """
        known = self.find(envelope.incarnation, key)
        if known is not None:
            known.asked(now)
            return
        name, device = (hello.model.name, hello.model.device) if hello.model else ("", "")
        peer = Peer(envelope.node, envelope.incarnation, hello.role, name, device, now, key)
        former = next((each for each in self.peers.values() if each.owner == peer.owner), None)
        if former is not None:
            self._retire(former.life)
            self._leave(former)
        elif peer.role == "draft" and len(self.drafts) >= limits.DRAFTS:
            text = f"no room for draft {peer.node}: this node has the {limits.DRAFTS} drafts that it takes at once"
            raise Refusal(ErrorCode.BUSY, text, retry_after=limits.LIVENESS)
        gone = self._gone.pop(peer.owner, peer.life)
        if gone != peer.life:
            self._retire(gone)
        if len(self.peers) >= limits.PEERS:
            self._make_room()
        self.peers[peer.life] = peer
        log.info("%s %s joins (%s)", peer.role, peer.node, ascii(name)[1:-1] or "no model")

    # ------------------------------------------------------------------------------------------ who goes

    def forget_silent(self, now: float) -> None:
        """Let go of drafts not heard of for the liveness time, and of others after the time that sequences are kept.

        To be called every beat: time in which this process itself stood still is no silence of theirs.
        """
        stood = self._standstill.look(now)
        for peer in list(self.peers.values()):
            peer.heard = min(now, peer.heard + stood)
            silent = now - peer.heard
            if silent > (limits.LIVENESS if peer.role == "draft" else limits.RETAIN):
                if peer.role == "draft":
                    log.warning("draft %s has been silent for %.1f s; going on without it", peer.node, silent)
                self._let_go(peer)

    def forget_keys(self, keys: frozenset[str]) -> None:
        """Let go of everybody who came with one of these keys."""
        for peer in [peer for peer in self.peers.values() if peer.key in keys]:
            log.warning("%s %s is no longer allowed here; going on without it", peer.role, peer.node)
            self._let_go(peer)

    def _make_room(self) -> None:
        """Let go of whoever was silent for longest, a draft only if there is nobody else."""
        self._let_go(min(self.peers.values(), key=lambda peer: (peer.role == "draft", peer.heard)))

    def _let_go(self, peer: Peer) -> None:
        """Go on without a peer, which may be back with its next hello."""
        self._gone[peer.owner] = peer.life
        _bound(self._gone)
        self._leave(peer)

    def _retire(self, life: str) -> None:
        """See that a life never returns."""
        self._retired[life] = None
        _bound(self._retired)

    def _leave(self, peer: Peer) -> None:
        del self.peers[peer.life]
        self._on_leave(peer)


def _bound(memory: dict[Any, Any]) -> None:
    """Forget what was remembered first, beyond KEPT."""
    while len(memory) > KEPT:
        del memory[next(iter(memory))]
