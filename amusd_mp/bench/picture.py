"""The two-lane picture: draft above, verify below, windows as arrows, rejected work hatched. Plain SVG, no library.

Several timelines are drawn one under the other on the same scale, so that what a strategy does with the same time can
be seen. It reads in light and dark surroundings, because it brings its own background.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Final

from amusd_mp.bench.timeline import Fate, Timeline, figures
from amusd_mp.core.messages import StepTrace

WIDTH: Final = 1120
LEFT: Final = 84
LANE: Final = 30
GAP: Final = 34
HEAD: Final = 26
BLOCK: Final = HEAD + 2 * LANE + GAP + 22
COLORS: Final = {
    Fate.ACCEPTED: "#3a9d6e",
    Fate.REJECTED: "url(#rejected)",
    Fate.UNUSED: "url(#unused)",
    Fate.PROMPT: "#9aa3ad",
    Fate.PREPARED: "#d9b95b",
}
VERIFY_COLOR: Final = "#3b6fb5"
ALONE_COLOR: Final = "#9dbbe0"

STYLE: Final = """<style>text{font:12px system-ui,sans-serif;fill:#222}.small{font-size:10px}.on{fill:#fff}</style>
<defs>
<pattern id="rejected" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
<rect width="6" height="6" fill="#f3c9c2"/><rect width="2.5" height="6" fill="#c0432f"/></pattern>
<pattern id="unused" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
<rect width="6" height="6" fill="#eceff2"/><rect width="1.5" height="6" fill="#a9b1ba"/></pattern>
<marker id="tip" viewBox="0 0 6 6" refX="5" refY="3" markerWidth="6" markerHeight="6" orient="auto">
<path d="M0 0L6 3L0 6z" fill="#555"/></marker>
</defs>"""


def draw(timelines: Mapping[str, Timeline], title: str, seconds: float) -> str:
    """Return an SVG of `seconds` of each timeline, by label, from a third on: the start is not typical."""
    scale = (WIDTH - LEFT - 16) / seconds
    parts: list[str] = []
    for number, (label, timeline) in enumerate(timelines.items()):
        parts += _strip(label, timeline, 34 + number * BLOCK, scale, seconds)
    bottom = 34 + len(timelines) * BLOCK
    parts += _legend(bottom + 6)
    height = bottom + 34
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">\n'
        f'{STYLE}\n<rect width="100%" height="100%" fill="#fff"/>\n'
        f'<text x="12" y="20" font-weight="600">{escape(title)}</text>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _strip(label: str, timeline: Timeline, top: float, scale: float, seconds: float) -> Iterator[str]:
    draft, verify = top + HEAD, top + HEAD + LANE + GAP
    zero = timeline.began + max(
        0.0, min((timeline.ended - timeline.began) / 3, timeline.ended - timeline.began - seconds)
    )
    end = min(zero + seconds, timeline.ended)
    found = figures(timeline)
    emitted = sum(step.entries[0].emitted for step in timeline.verify if zero < step.ended <= end)
    shares = ", ".join(
        f"{what} {found[key]:.0%}"
        for what, key in (("verify busy", "verify_busy"), ("draft busy", "draft_busy"), ("both", "overlap"))
    )
    said = f"{emitted} tokens in {1e3 * (end - zero):.0f} ms; over the whole response {shares}"
    yield f'<text x="12" y="{top + 16}" font-weight="600">{escape(label)}</text>'
    yield f'<text x="{WIDTH - 16}" y="{top + 16}" text-anchor="end">{escape(said)}</text>'
    yield f'<text x="12" y="{draft + 19}">draft</text><text x="12" y="{verify + 19}">verify</text>'

    def box(step: StepTrace, lane: float, color: str) -> Iterator[str]:
        left, right = max(step.began, zero), min(step.ended, end)
        if left < right:
            yield (
                f'<rect x="{at(left):.1f}" y="{lane}" width="{max(0.8, (right - left) * scale - 0.6):.1f}" '
                f'height="{LANE}" rx="1.5" fill="{color}"/>'
            )

    def at(when: float) -> float:
        return LEFT + (when - zero) * scale

    for step, fate in zip(timeline.draft, timeline.fates, strict=True):
        yield from box(step, draft, COLORS[fate])
    for step in timeline.verify:
        entry = step.entries[0]
        yield from box(step, verify, VERIFY_COLOR if entry.proposed else ALONE_COLOR)
        if (step.ended - step.began) * scale > 22 and zero <= step.began and step.ended <= end:
            shown = f"{entry.accepted}/{entry.proposed}" if entry.proposed else "-"
            middle = at((step.began + step.ended) / 2)
            yield f'<text class="small on" x="{middle:.1f}" y="{verify + 19}" text-anchor="middle">{shown}</text>'
    for flow in timeline.flows:
        sent, used = timeline.draft[flow.draft].ended, timeline.verify[flow.verify].began
        if zero <= sent and used <= end:
            yield (
                f'<line x1="{at(sent):.1f}" y1="{draft + LANE}" x2="{at(used):.1f}" y2="{verify - 1}" '
                'stroke="#555" stroke-width="1" marker-end="url(#tip)"/>'
            )


def _legend(top: float) -> Iterator[str]:
    shown = (
        (COLORS[Fate.ACCEPTED], "guess accepted"),
        (COLORS[Fate.REJECTED], "guess rejected"),
        (COLORS[Fate.UNUSED], "never verified"),
        (COLORS[Fate.PREPARED], "other ways alone"),
        (VERIFY_COLOR, "verify step (accepted/proposed)"),
        (ALONE_COLOR, "verify step without a proposal"),
    )
    at = LEFT
    for color, meaning in shown:
        yield f'<rect x="{at}" y="{top}" width="18" height="14" fill="{color}"/>'
        yield f'<text x="{at + 24}" y="{top + 11}">{meaning}</text>'
        at += 40 + int(6.6 * len(meaning))
