"""A network of named parties over `inproc`: each life of a party has faults of its own, and can be cut off or killed.

Who opens an end is found by a context variable, which tasks inherit; so the nodes and the client open URLs as ever. A
party that crashes falls silent in the same instant, whatever its code still says while it is torn down. Everything that
is said and heard passes `tell`, in the order in which it happens.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass
from typing import Final

from amusd_mp import transport
from amusd_mp.testing.faults import Faults, FaultyDialer
from amusd_mp.testing.simulation.loop import VirtualLoop
from amusd_mp.transport import Dialer, Handler, Listener, Received, Subscription, Transport, TransportOptions

Tell = Callable[[str, str, bytes], None]
"""(party, what happened, payload): `says`, `hears`, `asks`, `takes`, `answers`, `is (not) answered`."""


@dataclass(frozen=True, slots=True)
class Weather:
    """How bad every link is: see `Faults`."""

    drop: float = 0.0
    duplicate: float = 0.0
    delay: tuple[float, float] = (0.0, 0.0)
    reorder: float = 0.0
    hold: float = 0.05


@dataclass(eq=False)
class Life:
    """One life of one party.

    `dead` once it crashed: nothing of it reaches anybody any more. `stopped` while its process stands still: what
    arrives waits, and its timers are late.
    """

    name: str
    faults: Faults
    dead: bool = False
    stopped: bool = False


WHO: Final[ContextVar[Life]] = ContextVar("the party this code belongs to")


class Network:
    """Every link of one simulation."""

    def __init__(self, seed: str, weather: Weather, tell: Tell | None = None) -> None:
        self.lives: dict[str, Life] = {}
        """The present life of each party."""
        self.cut: set[str] = set()
        """Names of those who are cut off, now and in their next lives until they are mended."""
        self._random = random.Random(seed)
        self._weather = weather
        self._tell = tell or (lambda who, what, payload: None)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Have everything in this context, and in the tasks made in it, talk over this network."""
        with transport.using(_SimulatedTransport(transport.find("inproc://"), self._tell)):
            yield

    @contextmanager
    def being(self, name: str) -> Iterator[Life]:
        """Begin a life of a party: what this context opens, tasks included, is its."""
        life = self.lives[name] = Life(name, Faults(self._random))
        self._set(life)
        token = WHO.set(life)
        try:
            yield life
        finally:
            WHO.reset(token)

    def change(self, weather: Weather) -> None:
        """Change the weather everywhere."""
        self._weather = weather
        for life in self.lives.values():
            self._set(life)

    def partition(self, name: str) -> None:
        """Cut a dialling party off, what is on its way included."""
        self.cut.add(name)
        if name in self.lives:
            self.lives[name].faults.partition()

    def heal(self, name: str) -> None:
        """Mend a party's links, unless it is dead."""
        self.cut.discard(name)
        if name in self.lives and not self.lives[name].dead:
            self.lives[name].faults.heal()

    def crash(self, name: str) -> None:
        """Let a party fall silent at once and for good; its next life is another one."""
        life = self.lives[name]
        life.dead = True
        life.faults.partition()

    def stop(self, name: str) -> Life:
        """Have a party's process stand still, and return it for `go_on`."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.is_stopped = _stands_still
        life = self.lives[name]
        life.stopped = True
        return life

    @staticmethod
    def go_on(life: Life) -> None:
        """Have a stopped party go on where it stood."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        life.stopped = False
        loop.go_on()

    def _set(self, life: Life) -> None:
        weather, faults = self._weather, life.faults
        faults.drop, faults.duplicate, faults.delay = weather.drop, weather.duplicate, weather.delay
        faults.reorder, faults.hold = weather.reorder, weather.hold
        if life.name in self.cut or life.dead:
            faults.partition()


def _stands_still(context: Context) -> bool:
    life = context.get(WHO)
    return life is not None and life.stopped


class _SimulatedTransport(Transport):
    """`inproc`, with the faults of whoever opens an end."""

    scheme = "inproc"

    def __init__(self, inner: Transport, tell: Tell) -> None:
        self._inner = inner
        self._tell = tell

    async def listen(self, url: str, options: TransportOptions) -> Listener:
        return _Listener(await self._inner.listen(url, options), WHO.get(), self._tell)

    async def dial(self, url: str, options: TransportOptions) -> Dialer:
        return _Dialer(await self._inner.dial(url, options), WHO.get(), options, self._tell)


class _Overheard(Subscription):
    """A subscription whose messages are told as they are read."""

    def __init__(self, inner: Subscription, life: Life, tell: Tell) -> None:
        self._inner = inner
        self._life = life
        self._tell = tell

    @property
    def dropped(self) -> int:  # type: ignore[override]  # a plain attribute there, computed here
        return self._inner.dropped

    async def get(self) -> Received:
        return self._note(await self._inner.get())

    def get_nowait(self) -> Received | None:
        message = self._inner.get_nowait()
        return None if message is None else self._note(message)

    def close(self) -> None:
        self._inner.close()

    def _note(self, message: Received) -> Received:
        if not self._life.dead:
            self._tell(self._life.name, "hears", message.payload)
        return message


class _Dialer(FaultyDialer):
    """A dialling end of one life."""

    def __init__(self, inner: Dialer, life: Life, options: TransportOptions, tell: Tell) -> None:
        super().__init__(inner, life.faults, options)
        self._life = life
        self._tell = tell

    def publish(self, topic: str, payload: bytes) -> None:
        if not self._life.dead:
            self._tell(self._life.name, "says", payload)
        super().publish(topic, payload)

    def subscribe(self, prefix: str) -> Subscription:
        return _Overheard(super().subscribe(prefix), self._life, self._tell)

    async def request(self, payload: bytes, timeout: float) -> bytes:
        if not self._life.dead:
            self._tell(self._life.name, "asks", payload)
        reply = b""
        try:
            reply = await super().request(payload, timeout)
        finally:
            if not self._life.dead:
                self._tell(self._life.name, "is answered" if reply else "is not answered", reply or payload)
        return reply


class _Listener(Listener):
    """The listening end of one life. Its links are its diallers'; its own part is to fall silent when it dies."""

    def __init__(self, inner: Listener, life: Life, tell: Tell) -> None:
        self.url = inner.url
        self.endpoints: Mapping[str, str] = inner.endpoints
        self._inner = inner
        self._life = life
        self._tell = tell
        self._context = copy_context()  # a request is answered by this party's code, not by its asker's

    def publish(self, topic: str, payload: bytes) -> None:
        if not self._life.dead:
            self._tell(self._life.name, "says", payload)
            self._inner.publish(topic, payload)

    def subscribe(self, prefix: str) -> Subscription:
        return _Overheard(self._inner.subscribe(prefix), self._life, self._tell)

    def serve(self, handler: Handler) -> None:
        async def answer(payload: bytes, peer: str | None) -> bytes:
            self._tell(self._life.name, "takes", payload)
            reply = await handler(payload, peer)
            if self._life.dead:
                await asyncio.get_running_loop().create_future()  # until the listener closes: no answer leaves
            self._tell(self._life.name, "answers", reply)
            return reply

        async def at_home(payload: bytes, peer: str | None) -> bytes:
            work = answer(payload, peer)
            return await asyncio.get_running_loop().create_task(work, name=f"{self.url} answer", context=self._context)

        self._inner.serve(at_home)

    async def close(self) -> None:
        await self._inner.close()
