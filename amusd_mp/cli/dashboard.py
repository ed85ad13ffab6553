"""What `top` shows: both lanes as strips of characters, speed, acceptance, and how the nodes are.

Pure: it is fed steps and a status with the time by the verify node's clock, and gives something for rich to draw.
Height of a block tells how busy a device was; what came of it stands below in letters, so nothing hangs on colour.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from amusd_mp.core.messages import StatusReport, StepTrace

HEIGHTS: Final = " ▁▂▃▄▅▆▇█"
KEPT: Final = 30.0  # seconds of steps
SAME_CLOCK: Final = 0.05  # seconds; a smaller lag is a message's way, not another clock


class History:
    """The steps of the last seconds."""

    def __init__(self) -> None:
        self.steps: deque[StepTrace] = deque()
        self._lag: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<History {len(self.steps)} steps>"

    def take(self, step: StepTrace) -> None:
        """Add a step, and forget what is too old."""
        if step.heard:
            self._lag[step.node] = min(self._lag.get(step.node, float("inf")), step.heard - step.ended)
        self.steps.append(step)
        newest = self.end
        while self.steps and self.span(self.steps[0])[1] < newest - KEPT:
            self.steps.popleft()

    def span(self, step: StepTrace) -> tuple[float, float]:
        """Return a step's begin and end on the verify node's clock."""
        lag = self._lag.get(step.node, 0.0)
        shift = lag if abs(lag) > SAME_CLOCK else 0.0
        return step.began + shift, step.ended + shift

    @property
    def end(self) -> float:
        """When the newest step ended, 0 before the first."""
        return max((self.span(step)[1] for step in (list(self.steps)[-16:])), default=0.0)

    def since(self, when: float) -> list[StepTrace]:
        """Return the steps that ended after `when`."""
        return [step for step in self.steps if self.span(step)[1] > when]


def busy(history: History, node: str, begin: float, cell: float, cells: int) -> list[float]:
    """Return for each of `cells` stretches of `cell` seconds from `begin` on the share in which a node computed."""
    shares = [0.0] * cells
    for step in history.since(begin):
        if step.node != node:
            continue
        began, ended = history.span(step)
        for at in range(max(0, int((began - begin) / cell)), min(cells, int((ended - begin) / cell) + 1)):
            low = begin + at * cell
            shares[at] += max(0.0, min(ended, low + cell) - max(began, low)) / cell
    return shares


def strip(shares: Iterable[float]) -> str:
    """Return shares as blocks of that height; a little is never shown as nothing."""
    return "".join(HEIGHTS[0 if share <= 0 else max(1, min(8, round(share * 8)))] for share in shares)


def outcomes(history: History, begin: float, cell: float, cells: int) -> tuple[str, str]:
    """Return for each stretch how many guesses were accepted, and how many rejected; + for more than nine."""
    accepted, rejected = [0] * cells, [0] * cells
    for step in history.since(begin):
        at = int((history.span(step)[1] - begin) / cell)
        if step.role != "verify" or not 0 <= at < cells:
            continue
        accepted[at] += sum(entry.accepted for entry in step.entries)
        rejected[at] += sum(entry.proposed - entry.accepted for entry in step.entries)
    return _digits(accepted), _digits(rejected)


def _digits(counts: Sequence[int]) -> str:
    return "".join(" " if not count else str(count) if count < 10 else "+" for count in counts)


def rates(history: History, now: float) -> tuple[float, float | None]:
    """Return tokens per second over the last second, and acceptance over all that is kept (None without guesses)."""
    tokens = sum(entry.emitted for step in history.since(now - 1.0) for entry in step.entries)
    entries = [entry for step in history.steps if step.role == "verify" for entry in step.entries]
    proposed = sum(entry.proposed for entry in entries)
    return float(tokens), sum(entry.accepted for entry in entries) / proposed if proposed else None


def acceptance_by_second(history: History, now: float, seconds: int) -> list[float]:
    """Return acceptance in each of the last seconds, 0 where nothing was verified."""
    accepted, proposed = [0] * seconds, [0] * seconds
    for step in history.since(now - seconds):
        at = int(history.span(step)[1] - (now - seconds))
        if 0 <= at < seconds:
            accepted[at] += sum(entry.accepted for entry in step.entries)
            proposed[at] += sum(entry.proposed for entry in step.entries)
    return [a / p if p else 0.0 for a, p in zip(accepted, proposed, strict=True)]


def frame(history: History, status: StatusReport | None, now: float, *, width: int, window: float) -> RenderableType:
    """Return one picture of the last `window` seconds, `width` characters wide. `status` None: nobody answers."""
    if status is None:
        return Text("the verify node is silent: no token can be made", style="bold red")
    cells = max(20, width - 22)
    begin, cell = now - window, window / cells
    table = Table.grid(padding=(0, 1))
    table.add_column(width=20, no_wrap=True)
    table.add_column(no_wrap=True)
    for draft in status.drafts:
        table.add_row(
            f"{draft.node} guesses", Text(strip(busy(history, draft.node, begin, cell, cells)), "bright_black")
        )
    table.add_row(f"{status.node} decides", Text(strip(busy(history, status.node, begin, cell, cells)), "cyan"))
    accepted, rejected = outcomes(history, begin, cell, cells)
    table.add_row("  accepted", Text(accepted, "bold green"))
    table.add_row("  rejected", Text(rejected, "red strike"))
    table.add_row("", Text(f"{window:g} s ago".ljust(cells - 3) + "now", "bright_black"))
    speed, acceptance = rates(history, now)
    trend = strip(acceptance_by_second(history, now, int(KEPT)))
    table.add_row("acceptance", f"{trend}  {'-' if acceptance is None else f'{acceptance:.0%}'} over {KEPT:g} s")
    return Group(_title(status, speed), "", table)


def _title(status: StatusReport, speed: float) -> Text:
    title = Text(f"{status.model.name} on {status.model.device}", "bold")
    title.append(f"  {status.state.value}, {speed:.0f} tokens/s, ", "default")
    title.append(f"{status.sequences} of {status.max_sequences} sequences, ", "default")
    if status.degraded:
        title.append("degraded: no draft is joined", "bold yellow")
    else:
        title.append("guesses by " + ", ".join(f"{d.model} on {d.device}" for d in status.drafts), "default")
    return title
