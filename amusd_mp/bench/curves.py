"""Two small pictures of a run: tokens over time of one prompt, and how many proposals a step accepts. Plain SVG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final

from amusd_mp.bench.timeline import Timeline

WIDTH: Final = 560
HEIGHT: Final = 300
LEFT: Final = 52
BOTTOM: Final = 40
TOP: Final = 56
COLORS: Final = ("#777777", "#c98a1b", "#c0432f", "#3b6fb5", "#3a9d6e", "#7b5ea7")
STYLE: Final = "<style>text{font:12px system-ui,sans-serif;fill:#222}</style>"


def tokens_over_time(timelines: Mapping[str, Timeline], title: str) -> str:
    """Return an SVG with a staircase for each timeline: output tokens against milliseconds since its first step."""
    curves = {label: list(_staircase(timeline)) for label, timeline in timelines.items()}
    longest = max((points[-1][0] for points in curves.values() if points), default=1.0)
    most = max((points[-1][1] for points in curves.values() if points), default=1)
    parts = list(_frame(title, "ms", f"{longest:.0f}", "tokens", str(most)))
    for number, (label, points) in enumerate(curves.items()):
        color = COLORS[number % len(COLORS)]
        path = "".join(f"H{_x(ms / longest):.1f}V{_y(tokens / most):.1f}" for ms, tokens in points)
        parts.append(f'<path d="M{_x(0)} {_y(0)}{path}" fill="none" stroke="{color}" stroke-width="1.6"/>')
        parts.append(_key(_y(0) - 18 * (len(curves) - number), label, color))  # below the curves, which rise
    return _svg(parts)


def acceptance(rows: Sequence[Mapping[str, Any]], title: str) -> str:
    """Return an SVG with each contender's share of steps that accepted exactly so many proposals."""
    shown = [row for row in rows if sum(row["histogram"])]
    widest = max((len(row["histogram"]) for row in shown), default=1)
    tallest = max((max(row["histogram"]) / sum(row["histogram"]) for row in shown), default=1.0)
    parts = list(_frame(title, "accepted in a step", str(widest - 1), "share of steps", f"{tallest:.0%}"))
    slot = (_x(1) - _x(0)) / widest
    bar = 0.8 * slot / max(1, len(shown))
    for number, row in enumerate(shown):
        color, total = COLORS[(number + 1) % len(COLORS)], sum(row["histogram"])
        for accepted, count in enumerate(row["histogram"]):
            top, left = _y(count / total / tallest), _x(0) + accepted * slot + 0.1 * slot + number * bar
            parts.append(
                f'<rect x="{left:.1f}" y="{top:.1f}" width="{bar:.1f}" height="{_y(0) - top:.1f}" fill="{color}"/>'
            )
        parts.append(_key(_y(1) + 6 + 16 * number, row["contender"], color))
    return _svg(parts)


def _staircase(timeline: Timeline) -> Iterator[tuple[float, int]]:
    tokens = 0
    for step in timeline.verify:
        tokens += step.entries[0].emitted
        yield 1e3 * (step.ended - timeline.began), tokens


def _frame(title: str, across: str, right: str, up: str, top: str) -> Iterator[str]:
    yield f'<text x="12" y="20" font-weight="600">{escape(title)}</text>'
    yield f'<path d="M{_x(0)} {_y(1)}V{_y(0)}H{_x(1)}" fill="none" stroke="#999"/>'
    yield f'<text x="{_x(1)}" y="{HEIGHT - 22}" text-anchor="end">{right} {escape(across)}</text>'
    yield f'<text x="{_x(0)}" y="{HEIGHT - 22}">0</text>'
    yield f'<text x="{LEFT - 6}" y="{_y(1) + 4}" text-anchor="end">{top}</text>'
    yield f'<text x="{LEFT - 40}" y="{_y(1) - 8}">{escape(up)}</text>'


def _key(y: float, label: str, color: str) -> str:
    return (
        f'<rect x="{_x(1) - 150}" y="{y}" width="14" height="10" fill="{color}"/>'
        f'<text x="{_x(1) - 130}" y="{y + 10}">{escape(label)}</text>'
    )


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - 16)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)


def _svg(parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">\n'
        f'{STYLE}\n<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )
