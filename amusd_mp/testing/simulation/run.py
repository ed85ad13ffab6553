"""Run the scenario of a seed, and tell how it went."""

from __future__ import annotations

import gc
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from amusd_mp.testing.simulation.chronicle import Record
from amusd_mp.testing.simulation.loop import run
from amusd_mp.testing.simulation.network import WHO
from amusd_mp.testing.simulation.scenario import Scenario, draw
from amusd_mp.testing.simulation.story import EVERYTHING, Story
from amusd_mp.testing.simulation.watch import Breach


@dataclass(slots=True)
class Run:
    """One finished run. `breach` is what went wrong, "" if nothing did."""

    seed: int
    breach: str = ""
    seconds: float = 0.0  # of virtual time
    messages: int = 0
    steps: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    incidents: Counter[str] = field(default_factory=Counter)
    tokens: int = 0  # that clients were handed
    resubmissions: int = 0
    digest: str = ""  # of the whole record
    record: list[Record] = field(default_factory=list, repr=False)


def run_seed(seed: int, *, keep: bool = False) -> Run:
    """Run one seed. `keep` keeps the record, for `report`."""
    return run_scenario(draw(seed), keep=keep)


def run_scenario(scenario: Scenario, *, keep: bool = False) -> Run:
    """Run a scenario of one's own making."""
    done = Run(scenario.seed)
    story: Story | None = None

    async def main() -> None:
        nonlocal story
        story = Story(scenario, f"inproc://simulation-{scenario.seed}")
        try:
            await story.play()
        finally:
            done.seconds = story.chronicle.now()

    with _collecting_later(), _logging_to(lambda: story, keep):
        try:
            run(main(), until=2 * EVERYTHING)  # what is torn down may hang, too
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            done.breach = (
                story.chronicle.breaches[0] if story is not None and story.chronicle.breaches else _told(error)
            )
    if story is not None:
        done.messages, done.steps, done.outcomes = story.chronicle.messages, story.steps, story.readers.outcomes
        done.incidents = story.incidents
        done.tokens, done.resubmissions = story.readers.tokens, story.readers.resubmissions
        done.digest = digest(story.chronicle.record)
        done.record = story.chronicle.record if keep else []
    return done


def digest(record: list[Record]) -> str:
    """Return 16 hex digits that two equal runs share."""
    state = hashlib.blake2b(digest_size=8)
    for entry in record:
        state.update(repr(entry).encode())
    return state.hexdigest()


def _told(error: BaseException) -> str:
    """Return an error as one line: of a group, the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) if isinstance(error, Breach) else f"{type(error).__name__}: {error}"


@contextmanager
def _collecting_later() -> Iterator[None]:
    """Have the garbage collector wait: when it runs depends on more than the seed, and it may call into the loop."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class _ToStory(logging.Handler):
    """Puts log records into the record of the run; an error that is logged is a breach."""

    def __init__(self, story: Callable[[], Story | None]) -> None:
        super().__init__()
        self._story = story

    def emit(self, record: logging.LogRecord) -> None:
        story = self._story()
        if story is None:
            return
        life = WHO.get(None)
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f": {_told(record.exc_info[1])}"
        story.chronicle.logged(life.name if life else "world", text, failed=record.levelno >= logging.ERROR)


@contextmanager
def _logging_to(story: Callable[[], Story | None], everything: bool) -> Iterator[None]:
    """Take over the logs of the package and of asyncio: errors always, the rest if it is to be read."""
    handler = _ToStory(story)
    before = []
    for name, level in (("amusd_mp", logging.INFO if everything else logging.ERROR), ("asyncio", logging.ERROR)):
        logger = logging.getLogger(name)
        before.append((logger, logger.level, logger.propagate))
        logger.setLevel(level)
        logger.propagate = False
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger, level, propagate in before:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate
