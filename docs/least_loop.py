"""What the least loop around a verify step costs: a floor for the framework's own time per round.

An asyncio loop hands each step to a thread, reads the windows that came meanwhile from a plain SUB socket, unpacks the
last of them without checking it, compares it with a list, packs a commit and publishes it. It knows no sequences, no
text and no policy. Printed is the median of what a round takes beside the step's own seconds.

    $ python docs/least_loop.py 96 10     # layers added to the bundled verify model, windows told per round
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import msgpack
import zmq

ROUNDS, IGNORED = 150, 20
GUESSES = 34
READY = 30.0  # seconds until the teller must be there


def tell(folder: Path, windows: int) -> None:
    """Be the draft: after each commit publish so many windows, a millisecond apart."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    context = zmq.Context()
    up, down = context.socket(zmq.PUB), context.socket(zmq.SUB)
    up.connect(f"ipc://{folder}/up")
    down.connect(f"ipc://{folder}/down")
    down.setsockopt(zmq.SUBSCRIBE, b"")
    guesses = list(range(GUESSES))
    window = {"sequence": "s" * 16, "version": 1, "base": 100, "tokens": guesses, "parents": [at - 1 for at in guesses],
              "confidence": guesses, "drafted": 10, "rollbacks": 3, "resumed_at": 1.0, "guessed_at": 2.0}  # fmt: skip
    payload = msgpack.packb({"v": 1, "t": "draft", "n": "draft", "i": "d" * 16, "q": 1, "b": {"windows": [window]}})
    while True:
        down.poll(100)
        while down.poll(0):
            down.recv_multipart()
        for _ in range(windows):
            up.send_multipart([b"draft/d", payload])
            time.sleep(0.001)


async def decide(folder: Path, layers: int) -> tuple[float, float, float]:
    """Be the verify node. Return windows read per round, seconds of a step, and of a round beside it."""
    from amusd_mp.core.model import ModelSpec
    from amusd_mp.core.params import GenerationParams
    from amusd_mp.core.step import Block, Step
    from amusd_mp.engine.loading import load

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    spec = ModelSpec("bundled:verify", dtype="bfloat16", threads=1, max_length=1024, pad_layers=layers)
    model, params = load(spec).model, GenerationParams()
    model.run(Step(1, (Block("s", 0, 0, tuple(range(5, 205)), 0, params, 10),)))
    context = zmq.Context()
    windows, commits = context.socket(zmq.SUB), context.socket(zmq.PUB)
    windows.bind(f"ipc://{folder}/up")
    windows.setsockopt(zmq.SUBSCRIBE, b"")
    commits.bind(f"ipc://{folder}/down")
    deadline = time.monotonic() + READY
    while not windows.poll(100) and time.monotonic() < deadline:
        pass
    calls: SimpleQueue[tuple[Step, asyncio.Future[Any]]] = SimpleQueue()
    loop = asyncio.get_running_loop()

    def work() -> None:
        while True:
            step, future = calls.get()
            loop.call_soon_threadsafe(future.set_result, model.run(step))

    threading.Thread(target=work, daemon=True).start()
    committed, read = list(range(40)), 0
    rounds: list[float] = []
    steps: list[float] = []
    for number in range(2, 2 + ROUNDS):
        began = time.perf_counter()
        future: asyncio.Future[Any] = loop.create_future()
        calls.put((Step(number, (Block("s", 0, 200, (5, 6, 7, 8), 4, params, 10),)), future))
        result = await future
        last: list[bytes] = []
        try:
            while True:
                last = windows.recv_multipart(zmq.DONTWAIT)
                read += 1
        except zmq.Again:
            pass
        if last:
            tokens = msgpack.unpackb(last[1], use_list=False)["b"]["windows"][0]["tokens"]
            committed[-1] = sum(guess == own for guess, own in zip(tokens, committed, strict=False))
        body = {"sequence": "s" * 16, "version": number, "start": 10, "tokens": committed, "length": 50,
                "origins": "a" * 40, "text": "t" * 120, "text_start": 5, "ends": committed}  # fmt: skip
        commit = {"v": 1, "t": "committed", "n": "verify", "i": "v" * 16, "q": number, "b": body}
        commits.send_multipart([b"seq/s", msgpack.packb(commit)])
        steps.append(result.seconds)
        rounds.append(time.perf_counter() - began - result.seconds)
    return read / ROUNDS, statistics.median(steps), statistics.median(rounds[IGNORED:])


def main() -> None:
    layers, windows = int(sys.argv[1]), int(sys.argv[2])
    if len(sys.argv) > 3:
        tell(Path(sys.argv[3]), windows)
    with tempfile.TemporaryDirectory() as folder:
        teller = subprocess.Popen([sys.executable, __file__, *sys.argv[1:3], folder])
        try:
            read, step, beside = asyncio.run(decide(Path(folder), layers))
        finally:
            teller.kill()
            teller.wait()
    found = f"{read:.1f} windows and {1e3 * step:.1f} ms of a step per round, {1e6 * beside:.0f} us beside it (median)"
    print(found)  # noqa: T201


if __name__ == "__main__":
    main()
