"""A log line names its node, has one shape in each format, and is coloured for people only."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from amusd_mp.log import Event, LogFormat, Renderer, configure, wants_colour


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Put the root logger back as it was."""
    root = logging.getLogger()
    handlers, level, ours = list(root.handlers), root.level, logging.getLogger("amusd_mp").level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("amusd_mp").setLevel(ours)
    logging.captureWarnings(False)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_is_for_terminals_whose_owner_wants_it() -> None:
    assert wants_colour(Terminal(), {})
    assert wants_colour(Terminal(), {"NO_COLOR": ""})  # no-color.org: set and not empty
    assert not wants_colour(Terminal(), {"NO_COLOR": "1"})
    assert not wants_colour(Terminal(), {"TERM": "dumb"})
    assert not wants_colour(io.StringIO(), {})


def test_names_are_aligned_and_levels_told() -> None:
    renderer = Renderer(LogFormat.PLAIN, colour=True, width=6)
    assert renderer.line(Event("draft", "hello"))[9:] == "draft  | hello"
    assert renderer.line(Event("verify", "hm", "warning"))[9:] == "verify | warning: hm"
    assert renderer.fatal(Event("verify", "why", "error", fatal=True)) == "error: why"


def test_colour_only_adds_escapes() -> None:
    plain, colour = Renderer(LogFormat.AUTO, False), Renderer(LogFormat.AUTO, True)
    event = Event("draft", "hm", "error")
    shown = colour.line(event)
    assert shown != plain.line(event)
    for escape in (
        "\x1b[0m",
        "\x1b[2m",
        "\x1b[31m",
        "\x1b[36m",
        "\x1b[35m",
        "\x1b[34m",
        "\x1b[32m",
        "\x1b[96m",
        "\x1b[95m",
    ):
        shown = shown.replace(escape, "")
    assert shown == plain.line(event)


def test_an_event_survives_its_json() -> None:
    event = Event("draft", 'a "quoted" line', "warning", 12.5, fatal=True)
    assert Event.from_line(event.to_json(), "draft") == event
    assert Renderer(LogFormat.JSON, True).line(event) == event.to_json()


@pytest.mark.parametrize("line", ["plain words", "{not json", "[1]", '{"message": 5}', "3"])
def test_what_is_not_ours_becomes_the_message(line: str) -> None:
    event = Event.from_line(line, "draft")
    assert (event.node, event.message, event.fatal) == ("draft", line, False)


def test_our_loggers_are_heard_from_info_and_others_from_warning() -> None:
    stream = io.StringIO()
    configure("draft", Renderer(LogFormat.JSON, False), stream=stream)
    for name in ("amusd_mp.nodes.draft", "somebody"):
        logging.getLogger(name).debug("debug")
        logging.getLogger(name).info("info")
        logging.getLogger(name).warning("warning %d", 1)
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(each["level"], each["message"]) for each in told] == [
        ("info", "info"),
        ("warning", "warning 1"),
        ("warning", "warning 1"),
    ]
