"""What a log line looks like: one line per event, naming the node; coloured on a terminal, plain, or JSON.

Used by a node for its own lines and by the launcher for those it relays, so a deployment's log has one shape. Knows no
node and no process; library loggers are heard from WARNING on, ours from INFO (DEBUG on request).
"""

from __future__ import annotations

import json
import logging
import sys
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TextIO

_RESET: Final = "\x1b[0m"
_DIM: Final = "\x1b[2m"
_NODE_COLOURS: Final = ("\x1b[36m", "\x1b[35m", "\x1b[34m", "\x1b[32m", "\x1b[96m", "\x1b[95m")
_LEVEL_COLOURS: Final = {"warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}


class LogFormat(StrEnum):
    """How log lines are written. AUTO colours them if the stream is a terminal and NO_COLOR is not set."""

    AUTO = "auto"
    PLAIN = "plain"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Event:
    """One log line. `at` in seconds since the epoch. `fatal` marks the reason a process ends with, its last line."""

    node: str
    message: str
    level: str = "info"
    at: float = 0.0
    fatal: bool = False

    def to_json(self) -> str:
        """Return the event as one line of JSON."""
        fields: dict[str, object] = {"time": self.at, "level": self.level, "node": self.node, "message": self.message}
        if self.fatal:
            fields["fatal"] = True
        return json.dumps(fields, ensure_ascii=False)

    @staticmethod
    def from_line(line: str, node: str) -> Event:
        """Read what a node wrote: one of our JSON lines, or any other text, which becomes the message."""
        try:
            fields = json.loads(line)
        except ValueError:
            fields = None
        if not isinstance(fields, dict) or not isinstance(fields.get("message"), str):
            return Event(node, line, at=time.time())
        at = fields.get("time")
        return Event(
            node=node,
            message=fields["message"],
            level=str(fields.get("level", "info")),
            at=float(at) if isinstance(at, (int, float)) else time.time(),
            fatal=fields.get("fatal") is True,
        )


class Renderer:
    """Turns events into lines of one format. `width` aligns the names of several nodes."""

    def __init__(self, log_format: LogFormat, colour: bool, width: int = 0) -> None:
        self._json = log_format is LogFormat.JSON
        self._colour = colour and log_format is LogFormat.AUTO
        self._width = width

    def line(self, event: Event) -> str:
        """Return the line without its end."""
        if self._json:
            return event.to_json()
        clock = time.strftime("%H:%M:%S", time.localtime(event.at))
        node = event.node.ljust(self._width)
        message = event.message if event.level in ("info", "debug") else f"{event.level}: {event.message}"
        if not self._colour:
            return f"{clock} {node} | {message}"
        paint = _NODE_COLOURS[zlib.crc32(event.node.encode()) % len(_NODE_COLOURS)]
        level = _LEVEL_COLOURS.get(event.level)
        return f"{_DIM}{clock}{_RESET} {paint}{node} |{_RESET} " + (f"{level}{message}{_RESET}" if level else message)

    def fatal(self, event: Event) -> str:
        """Return the line that says why a process ends: `error: ...`, or the event itself as JSON."""
        return event.to_json() if self._json else f"error: {event.message}"


def wants_colour(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """True for a terminal, unless NO_COLOR is set (no-color.org) or the terminal is dumb."""
    return not environ.get("NO_COLOR") and environ.get("TERM") != "dumb" and stream.isatty()


class _Handler(logging.Handler):
    def __init__(self, node: str, renderer: Renderer, stream: TextIO) -> None:
        super().__init__()
        self._node, self._renderer, self._stream = node, renderer, stream
        self.setFormatter(logging.Formatter("%(message)s"))  # appends a traceback where a record has one

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event = Event(self._node, self.format(record), record.levelname.lower(), record.created)
            self._stream.write(self._renderer.line(event) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            self.handleError(record)


def configure(node: str, renderer: Renderer, *, debug: bool = False, stream: TextIO | None = None) -> None:
    """Send this process's log to `stream` (standard error), each line naming `node`. Replaces what was configured."""
    root = logging.getLogger()
    root.handlers[:] = [_Handler(node, renderer, stream or sys.stderr)]
    root.setLevel(logging.WARNING)
    logging.getLogger("amusd_mp").setLevel(logging.DEBUG if debug else logging.INFO)
    logging.captureWarnings(True)
