"""Rule: a socket is read whole, and nobody who sends faster than we read keeps the process to himself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import zmq

from amusd_mp.transports.zeromq_pump import BATCH, BATCHES, Pump

DEADLINE = 30.0


@contextmanager
def pumped(on_frames: Callable[[list[bytes], str | None], None]) -> Iterator[tuple[Pump, zmq.Socket[bytes]]]:
    """A pump of one end of a line within this process, and the other end."""
    context = zmq.Context()
    ours, theirs = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    for end in (ours, theirs):
        end.set_hwm(0)
    ours.bind("inproc://line")
    theirs.connect("inproc://line")
    pump = Pump(ours, "test", on_frames, None)
    try:
        yield pump, theirs
    finally:
        pump.close(linger=0)
        theirs.close(linger=0)
        context.term()


async def test_draining_a_line_on_which_more_comes_with_every_message_ends() -> None:
    read = 0

    def again(frames: list[bytes], peer: str | None) -> None:
        nonlocal read
        read += 1
        theirs.send(b"more")

    with pumped(again) as (pump, theirs):
        pump.pause()
        theirs.send(b"first")
        pump.drain()
        assert read == BATCH * BATCHES
        pump.drain()
        assert read == 2 * BATCH * BATCHES, "a paused pump reads on when it is asked again"


async def test_what_a_drain_leaves_is_read_by_the_loop() -> None:
    read: list[bytes] = []
    sent = [b"%d" % number for number in range(2 * BATCH * BATCHES + 1)]
    with pumped(lambda frames, _: read.append(frames[0])) as (pump, theirs):
        for message in sent:
            theirs.send(message)
        pump.drain()
        assert BATCH * BATCHES <= len(read) < len(sent)
        async with asyncio.timeout(DEADLINE):
            while len(read) < len(sent):  # noqa: ASYNC110  # it is the loop's turns that count
                await asyncio.sleep(0)
    assert read == sent
