"""One node as a subprocess: started by a command line, its lines relayed, its ready line and its last error kept.

It is a session of its own, so that Ctrl-C at a terminal reaches only the parent, which then stops the nodes in order;
its standard input is a pipe that ends with the parent, so that it never outlives it. Knows no policy: the launcher has
that.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final

from amusd_mp.log import Event

LINE_BYTES: Final = 64 * 1024
"""Longer lines are cut in pieces, so that a stream without line ends cannot fill the memory."""

KEPT_LINES: Final = 20
"""Last lines remembered, for a node that dies without saying why."""

RELAY_GRACE: Final = 1.0
"""Seconds to read what is left after the process ended; somebody else may hold its pipes open."""

OnEvent = Callable[[Event], None]


class NodeProcess:
    """One start of one node. `run` once."""

    def __init__(self, name: str, command: Sequence[str], on_event: OnEvent, environ: Mapping[str, str]) -> None:
        self.name = name
        self.ready: dict[str, object] | None = None
        """The fields of its ready line, None before."""
        self._command = tuple(command)
        self._on_event = on_event
        self._environ = environ
        self._process: asyncio.subprocess.Process | None = None
        self._asked: signal.Signals | None = None
        self._fatal: str | None = None
        self._last: deque[str] = deque(maxlen=KEPT_LINES)

    def __repr__(self) -> str:
        state = "not started" if self._process is None else "running" if self.alive else f"ended {self.exit_code}"
        return f"<NodeProcess {self.name} pid={self.pid} {state}{' ready' if self.ready else ''}>"

    @property
    def pid(self) -> int | None:
        """The process id, None before it is started."""
        return self._process.pid if self._process else None

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that killed it."""
        return self._process.returncode if self._process else None

    @property
    def alive(self) -> bool:
        """True between its start and its end."""
        return self._process is not None and self._process.returncode is None

    @property
    def reason(self) -> str:
        """Why it ended, in its own words where it had time for any."""
        if self._fatal is not None:
            return self._fatal
        code = self.exit_code
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return f"killed by {signal.Signals(-code).name}"
        said = f"; its last line: {self._last[-1]}" if self._last else ""
        return f"ended with exit code {code}{said}"

    async def run(self, on_ready: Callable[[], None]) -> int:
        """Start the process and return its exit code when it has ended. Kills it if this call is cancelled.

        Raises OSError if it cannot be started.
        """
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            env=dict(self._environ),
        )
        self._process = process
        if self._asked is not None:  # while it was being started
            process.send_signal(self._asked)
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            async with asyncio.TaskGroup() as relays:
                out = relays.create_task(self._relay_output(process.stdout, on_ready), name=f"{self.name} stdout")
                err = relays.create_task(self._relay_log(process.stderr), name=f"{self.name} stderr")
                code = await process.wait()
                _, late = await asyncio.wait({out, err}, timeout=RELAY_GRACE)
                for relay in late:
                    relay.cancel()
        finally:
            self.kill()
        return code

    def terminate(self) -> None:
        """Ask for a graceful end, also of a process that is just being started. Nothing happens if it has ended."""
        self._asked = signal.SIGTERM
        if self.alive and self._process:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    def kill(self) -> None:
        """End it and what it started, at once. Nothing happens if it has ended."""
        self._asked = signal.SIGKILL
        if not (self.alive and self._process):
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its session's only group has its own id

    async def _relay_output(self, stream: asyncio.StreamReader, on_ready: Callable[[], None]) -> None:
        async for line in _lines(stream):
            fields = _json_object(line)
            if fields.get("event") == "ready":
                self.ready = fields
                on_ready()
            elif line.strip():
                self._on_event(Event.from_line(line, self.name))

    async def _relay_log(self, stream: asyncio.StreamReader) -> None:
        async for line in _lines(stream):
            if not line.strip():
                continue
            event = Event.from_line(line, self.name)
            self._last.append(event.message)
            if event.fatal:
                self._fatal = event.message  # shown by the launcher, last and once
            else:
                self._on_event(event)


def _json_object(line: str) -> dict[str, object]:
    if not line.startswith("{"):
        return {}
    try:
        fields = json.loads(line)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Yield decoded lines; of a line that overwrote itself (a progress bar), what it showed last."""
    rest = b""
    while chunk := await stream.read(LINE_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) >= LINE_BYTES:
            lines.append(rest)
            rest = b""
        for line in lines:
            yield _shown(line)
    if rest:
        yield _shown(rest)


def _shown(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r").rpartition("\r")[2]
