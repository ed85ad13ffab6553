"""Measured against bound: the same nodes and schedule in virtual time, where nothing costs time but the two devices.

How long steps take relative to each other is that of each contender's own on the recorded prompts: a verify step may
take longer beside a draft that goes on guessing, and so may a draft step that also feeds branches. All of them are then
scaled so that a verify step takes on average what its device took in the measured run: a machine's speed changes, and
a recorded step has a part of the framework's time in it. Which tokens the draft guesses is taken from
alternating's rounds on the same prompts, token by token; that a runner-up was right instead is taken from the main
contender's steps. What nobody looked at is drawn, as likely as the verify node found it on average. The simulated
draft's confidence tells nothing. How far the rest carries shows in the strategies that have nothing to decide
(autoregressive and alternating), whose bounds stand beside the main one's.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from amusd_mp.core.limits import LOOKAHEAD
from amusd_mp.core.params import Strategy
from amusd_mp.testing.simulation.pair import simulate_pair


def with_bound(summary: Mapping[str, Any], known: tuple[float, float, float] | None = None) -> dict[str, Any]:
    """Return the summary with `bounds`: by contender, ms/token, which share of it was reached, and the times assumed.

    `known` are milliseconds of a verify step, of each proposal, and of a draft step; None: as recorded, and scaled.
    Unchanged where step times or acceptance are not known. Blocks, and may not be called from a running loop.
    """
    acceptance = alternating_acceptance(summary)
    if acceptance is None or summary["settings"]["concurrency"] > 1:
        return dict(summary)
    agreement = completed(summary.get("agreement") or (), acceptance, summary.get("rescued") or 0.0)
    bounds: dict[str, Any] = {}
    for row in summary["rows"]:
        chosen = of_label(row["contender"])
        times = known or recorded(summary.get("steps") or {}, row["contender"])
        if chosen is None or times is None or row["decode_total_ms"] is None:
            continue
        strategy, lookahead = chosen[0], chosen[1] or summary["settings"].get("lookahead") or LOOKAHEAD
        pace = 1.0 if known else pace_of(summary, row["contender"])
        verify_ms, verify_ms_per_token, draft_ms = (pace * each for each in times)
        found = simulate_pair(
            verify_ms=verify_ms,
            verify_ms_per_token=verify_ms_per_token,
            draft_ms=draft_ms,
            acceptance=acceptance,
            agreement=agreement,
            delay_ms=summary["settings"]["delay_ms"],
            strategy=strategy,
            lookahead=lookahead,
            devices=devices_of(summary),
        )
        bounds[row["contender"]] = {
            "ms_per_token": found.ms_per_token,
            "share": found.ms_per_token / row["decode_total_ms"],
            "verify_ms": verify_ms,
            "verify_ms_per_token": verify_ms_per_token,
            "draft_ms": draft_ms,
        }
    return {**summary, "bounds": bounds, "bound_assumes": {"acceptance": acceptance}} if bounds else dict(summary)


def devices_of(summary: Mapping[str, Any]) -> tuple[str, str]:
    """Return what verify and draft node call their devices: a draft goes by whether they may share memory."""
    models = summary.get("models") or {}
    drafts = models.get("drafts") or [{}]
    return models.get("verify", {}).get("device", ""), drafts[0].get("device", "")


def recorded(steps: Mapping[str, Any], label: str) -> tuple[float, float, float] | None:
    """Return milliseconds of a verify step, of each proposal, and of a draft step; None where nothing was recorded.

    They are a contender's own, and those of all together where it made no such step, or its own were not kept.
    """
    own = steps.get("contenders", {}).get(label, {})
    found = (verify_cost(each.get("verify_ms", {}), each.get("verify_steps", {})) for each in (own, steps))
    cost = next((each for each in found if each is not None), None)
    draft_ms = own.get("draft_ms") or steps.get("draft_ms")
    return (*cost, draft_ms) if cost is not None and draft_ms else None


def pace_of(summary: Mapping[str, Any], label: str) -> float:
    """Return what a contender's verify step took in the measured run, as part of what its recorded ones did.

    1.0 where either is not known.
    """
    work = summary.get("verify_device", {}).get(label)
    own = (summary.get("steps") or {}).get("contenders", {}).get(label, {})
    counts = own.get("verify_steps") or {}
    recorded_ms = sum(count * own["verify_ms"][k] for k, count in counts.items())
    if not work or not recorded_ms:
        return 1.0
    return float(1e3 * work["seconds"] / work["steps"] * sum(counts.values()) / recorded_ms)


def completed(agreement: Sequence[str], acceptance: float, rescued: float) -> list[list[int]]:
    """Return for each response of which tokens the draft's first (1) or second choice (2) is right, or neither (0).

    What was not looked at is drawn: the first is right with `acceptance`, and `rescued` is the part of the wrong ones
    where the second is, those that were seen to be included.
    """
    dice = random.Random(1)
    seen = "".join(agreement)
    right, unknown = seen.count("2"), seen.count("x") + (1 - acceptance) * seen.count("?")
    second = min(1.0, max(0.0, (rescued * (right + unknown) - right) / unknown)) if unknown else 0.0

    def drawn(each: str) -> int:
        if each in "12":
            return int(each)
        if each == "?" and dice.random() < acceptance:
            return 1
        return 2 * (dice.random() < second)

    return [[drawn(each) for each in told] for told in agreement if told]


def of_label(label: str) -> tuple[Strategy, int | None] | None:
    """Return strategy and lookahead of a contender, None for the deployment's own; None for another program's."""
    name, _, rest = label.partition(", ")
    if name not in list(Strategy):
        return None
    number = rest.removeprefix("k=").removeprefix("lookahead ")
    return Strategy(name), int(number) if number else None


def alternating_acceptance(summary: Mapping[str, Any]) -> float | None:
    """Return the chance that a proposal behind accepted ones is accepted, from alternating's rounds of a fixed k."""
    for row in summary["rows"]:
        chosen = of_label(row["contender"])
        if chosen is not None and chosen[0] is Strategy.ALTERNATING and row["histogram"]:
            counts, k = row["histogram"], chosen[1]
            accepted = sum(j * count for j, count in enumerate(counts))
            refused = sum(counts[:k])
            return float(accepted / (accepted + refused)) if accepted + refused else None
    return None


def verify_cost(times: Mapping[str, float], counts: Mapping[str, int]) -> tuple[float, float] | None:
    """Return milliseconds of a verify step alone, and of each proposal; None if nothing was seen.

    `times` are by proposals, as are the `counts` of steps they are means of. Least squares over all steps, through the
    mean of those without proposals where there were any; where that would fall, the mean of all.
    """
    points = [(int(k), ms, counts.get(k, 1)) for k, ms in times.items()]
    if not points:
        return None
    total = sum(count for *_, count in points)
    middle, level = mean = [sum(point[at] * point[2] for point in points) / total for at in (0, 1)]
    if "0" in times:
        middle, level = 0.0, times["0"]  # a line through what was seen
    spread = sum(count * (k - middle) ** 2 for k, _, count in points)
    slant = sum(count * (k - middle) * (ms - level) for k, ms, count in points)
    slope = slant / spread if spread else 0.0
    return (level - slope * middle, slope) if slope > 0 else (mean[1], 0.0)
