"""A process that stands between a verify node and its peers, and sends hostile bytes to every socket there is.

    python attacker.py '{"url": ..., "seed": 1}'

It prints one JSON line with the URL to dial instead of the verify node's, then reads orders, one JSON line each
(`{"lane": "requests", "count": 500}`), and answers each with figures. All that passes through is recorded, and the
records are what it mutates (`forger`). `{"lane": "keep", "file": ...}` writes the payloads of the last order down,
which `{"lane": ..., "replay": FILE}` sends again. Lanes:

requests       DEALERs at the verify node's ROUTER, all frames and payloads; every well-framed one must be answered
windows        PUBs at its SUB: drafts that said hello, the real draft's own identity, and strangers
subscriptions  XSUBs at its PUB: subscriptions to anything, and messages where none belong
publications   through the way to the drafts and clients behind this process; only what the verify node never said
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, Final

import msgpack
import zmq
from forger import DOOMED, Forger, Frames
from hostile import Mutator

from amusd_mp.codec import DecodeError, decode, encode, holds_all
from amusd_mp.core.messages import Envelope, Hello, Welcome

IN_FLIGHT: Final = 64
"""Requests one peer has unanswered: below the queues of either end, so that none is dropped on the way."""

PATIENCE: Final = 60.0
"""Seconds without an answer after which the verify node counts as dead."""

KEPT: Final = 300
"""Records of each kind; the newest replace the oldest."""


class Attacker:
    """The way through, the records, and one method that sends for each lane."""

    def __init__(self, url: str, seed: int) -> None:
        self._seed = seed
        self._orders = 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.records: dict[str, deque[bytes]] = {}
        self._forger = Forger(seed, self.records)
        self.sent: list[tuple[int, Frames]] = []
        self._control = self._dealer(url)
        welcome = self._greet(self._control, "scout", "observer")
        host, ends = url.rpartition(":")[0], dict(welcome.endpoints)
        self._card = welcome.model
        self._pub_url, self._sub_url = (f"{host}:{ends[name].rpartition(':')[2]}" for name in ("pub", "sub"))
        self._url = url
        # the way through: diallers' requests, the verify node's publications, the diallers' own
        self._front = self._bound(zmq.ROUTER)
        self._pub = self._bound(zmq.XPUB)
        self._heard = self._connected(zmq.XSUB, self._pub_url)
        self._taken = self._bound(zmq.SUB)
        self._taken.setsockopt(zmq.SUBSCRIBE, b"")
        self._told = self._connected(zmq.PUB, self._sub_url)
        self._back = self._dealer(url)
        self._evil = self._connected(zmq.PUB, self._sub_url)
        self._doomed = self._connected(zmq.PUB, self._sub_url)
        self._passing = False

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 1000)
        socket.setsockopt(zmq.SNDHWM, 1000)
        if kind in (zmq.PUB, zmq.XPUB):
            socket.setsockopt(zmq.XPUB_NODROP, 1)
        return socket

    def _bound(self, kind: int) -> zmq.Socket[bytes]:
        socket = self._socket(kind)
        socket.bind("tcp://127.0.0.1:*")
        return socket

    def _connected(self, kind: int, url: str) -> zmq.Socket[bytes]:
        socket = self._socket(kind)
        socket.connect(url)
        return socket

    def _dealer(self, url: str) -> zmq.Socket[bytes]:
        return self._connected(zmq.DEALER, url)

    @staticmethod
    def _end(socket: zmq.Socket[bytes]) -> str:
        return socket.getsockopt_string(zmq.LAST_ENDPOINT)

    @property
    def url(self) -> str:
        """What peers dial to come through here."""
        return self._end(self._front)

    def _greet(
        self, socket: zmq.Socket[bytes], node: str, role: str, life: str = "scout", model: Any = None
    ) -> Welcome:
        socket.send_multipart([b"", encode(Envelope(node, life, 1, Hello(role, (1, 1), model=model)))])
        if not socket.poll(int(PATIENCE * 1000)):
            raise TimeoutError("the verify node does not answer")
        envelope = decode(socket.recv_multipart()[-1])
        assert isinstance(envelope.body, Welcome), envelope
        self._forger.verify = envelope.incarnation
        return envelope.body

    # ------------------------------------------------------------------------------------------ the way through

    def pass_on(self, wait: int = 0) -> None:
        """Carry what waits at either side to the other, and record it."""
        self._passing = True
        try:
            self._pass_on(wait)
        finally:
            self._passing = False

    def _pass_on(self, wait: int) -> None:
        poller = zmq.Poller()
        for socket in (self._front, self._back, self._heard, self._pub, self._taken):
            poller.register(socket, zmq.POLLIN)
        ready = dict(poller.poll(wait))
        if self._front in ready:
            for frames in drained(self._front):
                self._record("requests", frames[-1])
                self._back.send_multipart(frames)
        if self._back in ready:
            for frames in drained(self._back):
                self._record("replies", frames[-1])
                self._front.send_multipart([*frames[:-1], self._redirected(frames[-1])])
        if self._heard in ready:
            for frames in drained(self._heard):
                self._record("publications", frames[-1])
                self._deliver(self._pub, frames)
        if self._pub in ready:
            for frames in drained(self._pub):
                self._heard.send_multipart(frames)
        if self._taken in ready:
            for frames in drained(self._taken):
                self._record("windows", frames[-1])
                if holds_all(frames[-1]):
                    self._record("drafts", frames[-1])
                self._deliver(self._told, frames)

    def _redirected(self, reply: bytes) -> bytes:
        """Have a welcome name this process's endpoints."""
        message = msgpack.unpackb(reply, strict_map_key=False)
        if message.get("t") == "welcome":
            message["b"]["endpoints"] = [["pub", self._end(self._pub)], ["sub", self._end(self._taken)]]
            return bytes(msgpack.packb(message))
        return reply

    def _record(self, kind: str, payload: bytes) -> None:
        self.records.setdefault(kind, deque(maxlen=KEPT)).append(payload)

    def _deliver(self, socket: zmq.Socket[bytes], frames: Frames) -> None:
        """Send, with patience for a reader that is behind."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                socket.send_multipart(frames, zmq.DONTWAIT)
                return
            except zmq.Again:
                if time.monotonic() > until:
                    raise TimeoutError("a reader does not read any more") from None
                if self._passing:
                    time.sleep(0.001)
                else:
                    self.pass_on(1)

    # ------------------------------------------------------------------------------------------ orders

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out one order and return its figures."""
        self._orders += 1
        lane = order["lane"]
        if lane == "keep":
            kept = [(at, [each.hex() for each in frames]) for at, frames in self.sent]
            Path(order["file"]).write_text(json.dumps(kept))
            return {}
        if lane == "records":
            self.pass_on()
            return {kind: len(kept) for kind, kept in self.records.items()}
        mutator = Mutator(random.Random(f"{self._seed} {lane} {self._orders}"))
        if "replay" in order:
            batch = [
                (at, [bytes.fromhex(each) for each in frames])
                for at, frames in json.loads(Path(order["replay"]).read_text())
            ]
        else:
            make = getattr(self._forger, lane)
            batch = []
            for number in range(order["count"]):
                made = make(mutator)
                batch += [made] if made is not None else []
                if number % 20 == 0:
                    self.pass_on()
        self.sent = batch
        return {"lane": lane, "sent": len(batch), **getattr(self, f"_send_{lane}")(batch)}

    # ------------------------------------------------------------------------------------------ lanes

    def _send_requests(self, batch: list[tuple[int, Frames]]) -> dict[str, Any]:
        peers = [self._dealer(self._url) for _ in range(DOOMED + 1)]
        waiting, answers, refusals, unread = [0] * len(peers), 0, 0, 0

        def collect(until: int) -> None:
            nonlocal answers, refusals, unread
            patience = time.monotonic() + PATIENCE
            while max(waiting) > until:
                if time.monotonic() > patience:
                    raise TimeoutError(f"{sum(waiting)} requests are not answered")
                self.pass_on(1)
                for at, peer in enumerate(peers):
                    for frames in drained(peer):
                        waiting[at] -= 1
                        answers += 1
                        patience = time.monotonic() + PATIENCE
                        try:
                            refusals += decode(frames[-1]).body.__class__.__name__ == "ErrorReply"
                        except DecodeError:
                            unread += 1  # a failure's text

        for at, frames in batch:
            waiting[at] += at != DOOMED and is_question(frames)
            peers[at].send_multipart(frames or [b""])
            if waiting[at] >= IN_FLIGHT:
                collect(IN_FLIGHT // 2)
        collect(0)
        for peer in peers:
            peer.close()
        framed = sum(at != DOOMED and is_question(frames) for at, frames in batch)
        return {"framed": framed, "answers": answers, "refusals": refusals, "unread": unread}

    def _send_windows(self, batch: list[tuple[int, Frames]]) -> dict[str, Any]:
        for peer in range(3):
            self._greet(self._control, f"evil-{peer}", "draft", f"evil-{self._seed}-{peer}", self._card)
        for number, (peer, frames) in enumerate(batch):
            self._deliver(self._evil if peer != DOOMED else self._doomed, frames)
            if number % 20 == 0:
                self.pass_on()
        return {}

    def _send_subscriptions(self, batch: list[tuple[int, Frames]]) -> dict[str, Any]:
        peers = [self._connected(zmq.XSUB, self._pub_url) for _ in range(4)]
        for number, (at, frames) in enumerate(batch):
            self._deliver(peers[at], frames or [b""])
            if number % 50 == 0:
                self.pass_on()
                for peer in peers:
                    for _ in drained(peer):
                        pass
        self._greet(self._control, "scout", "observer")  # it has read as far as this, or will
        for peer in peers:
            peer.close()
        return {}

    def _send_publications(self, batch: list[tuple[int, Frames]]) -> dict[str, Any]:
        for number, (_, frames) in enumerate(batch):
            self._deliver(self._pub, frames)
            if number % 10 == 0:
                self.pass_on()
        return {}


def is_question(frames: Frames) -> bool:
    """Return whether frames are a request of their own to a ROUTER that puts the sender's id in front."""
    return 2 <= len(frames) <= 9 and frames[-2] == b"" and b"" not in frames[:-2]


def drained(socket: zmq.Socket[bytes]) -> list[Frames]:
    """Return what a socket holds now, a bounded number at a time."""
    found: list[Frames] = []
    while len(found) < 200:
        try:
            found.append(socket.recv_multipart(zmq.DONTWAIT))
        except zmq.Again:
            break
    return found


def main() -> None:
    """Obey the orders on standard input until it ends."""
    options = json.loads(sys.argv[1])
    attacker = Attacker(options["url"], options["seed"])
    print(json.dumps({"url": attacker.url}), flush=True)  # noqa: T201
    poller = zmq.Poller()
    poller.register(sys.stdin, zmq.POLLIN)
    while True:
        attacker.pass_on(5)
        if not dict(poller.poll(0)):
            continue
        line = sys.stdin.readline()
        if not line:
            return
        try:
            figures = attacker.obey(json.loads(line))
        except TimeoutError as error:
            figures = {"failed": str(error)}
        print(json.dumps(figures), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
