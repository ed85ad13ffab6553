"""A run's summary as text: the table a person reads first, and several runs side by side. Made from files alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

Summary = Mapping[str, Any]


class Columns(Protocol):
    """Sets rows of cells as aligned lines, the columns at the indices in `numeric` to the right."""

    def __call__(self, rows: Sequence[Sequence[str]], numeric: Sequence[int] = ...) -> list[str]: ...


HEAD: Final = ("contender", "tokens/s", "ms/token", "quartiles", "speed-up", "95 %", "mean ratio", "95 %", "accept",
        "length", "overlap", "wasted", "other texts")  # fmt: skip


def lines(summary: Summary, columns: Columns) -> Iterator[str]:
    """Yield a summary as lines."""
    yield f"{summary['name']}: {models(summary)}"
    settings = summary["settings"]
    yield (
        f"{settings['prompts']} prompts, {settings['max_tokens']} tokens, {settings['repeats']} repeats, "
        f"{settings['concurrency']} at once, order rotated"
        + (", each computes its prompts" if settings.get("cold") else "")
        + (f", {settings['delay_ms']:g} ms added to each message between the nodes" if settings["delay_ms"] else "")
    )
    yield ""
    yield from table(summary, columns)
    for name, part in summary.get("categories", {}).items():
        yield ""
        yield f"{name}:"
        yield from table({**part, "baseline": summary["baseline"], "different": {}}, columns)
    yield ""
    main = summary["main"]
    for found in summary["speed_ups"]:
        if found["contender"] == main and found["baseline"] != summary["baseline"]:
            yield (
                f"{main} over {found['baseline']}: {times(found['total'])} in total time per token, "
                f"{times(found['mean'])} as a mean over prompts"
            )
    yield from notes(summary)


def table(summary: Summary, columns: Columns) -> list[str]:
    """Return the rows as aligned lines."""
    against = {found["contender"]: found for found in summary["speed_ups"] if found["baseline"] == summary["baseline"]}
    body = [cells(row, against.get(row["contender"]), summary["different"]) for row in summary["rows"]]
    return columns([HEAD, *body], numeric=range(1, len(HEAD)))


def cells(row: Mapping[str, Any], against: Mapping[str, Any] | None, different: Mapping[str, int]) -> tuple[str, ...]:
    """Return one row as text; times of one token in milliseconds."""
    one = {"value": 1.0}
    total, mean = (against["total"], against["mean"]) if against else (one, one)
    per_token = row["ms_per_token"]
    return (
        row["contender"],
        "-" if row["tokens_per_second"] is None else f"{row['tokens_per_second']:.1f}",
        f"{per_token['median']:.2f}",
        f"{per_token['low']:.1f}-{per_token['high']:.1f}",
        f"{total['value']:.2f}x",
        interval(total),
        f"{mean['value']:.2f}x",
        interval(mean),
        share(row["acceptance_rate"]),
        "-" if row["mean_acceptance_length"] is None else f"{row['mean_acceptance_length']:.2f}",
        share(row["overlap"]),
        share(row["wasted"] / row["drafted"] if row["drafted"] else None),
        str(different.get(row["contender"], 0)),
    )


def notes(summary: Summary) -> Iterator[str]:
    """Yield what else was found: the sweep, differences, the framework's own time, the bound."""
    sweep = summary.get("sweep") or []
    if sweep:
        found = ", ".join(f"k={each['k']} {each['ms_per_token']:.2f}" for each in sweep)
        yield f"sweep of alternating on {summary['settings']['sweep_prompts']} prompts, ms/token: {found}"
    for row in summary["rows"]:
        if row["degraded"]:
            responses = f"{row['degraded']} of {row['responses']} responses of {row['contender']}"
            yield f"without a draft for a while: {responses}"
        if row.get("prompt_ms"):
            yield f"taken off {row['contender']} for its prompts, mean of a response: {row['prompt_ms']:.0f} ms"
    for found in summary["differences"]:
        margin = "unknown" if found["margin"] is None else f"{found['margin']:.3g}"
        yield (
            f"another text: {found['contender']}, prompt {found['prompt']}, repeat {found['repeat']}, "
            f"from output token {found['position']} on; margin of the two best there {margin}"
        )
    framework = summary.get("framework")
    if framework:
        yield (
            f"framework time per verify round: {framework['p50_us']:.0f} us (median), {framework['p95_us']:.0f} us "
            f"(95 %), over {framework['rounds']} rounds"
        )
    steps = summary.get("steps")
    if steps:
        for label, times in (steps.get("contenders") or {"all contenders": steps}).items():
            verify = ", ".join(f"{k}: {ms:.1f}" for k, ms in times["verify_ms"].items())
            draft = "" if times["draft_ms"] is None else f"; a draft step: {times['draft_ms']:.1f} ms"
            yield f"a verify step of {label} with that many proposals takes, in ms: {verify}{draft}"
    bounds = summary.get("bounds") or {}
    if bounds:
        found = "; ".join(f"{label} {each['ms_per_token']:.2f}, {each['share']:.2f}" for label, each in bounds.items())
        yield f"bound in virtual time with free messages (ms/token, bound / measured): {found}"


def models(summary: Summary) -> str:
    """Return which models on which devices, with the label of a padded one."""
    shown = summary["models"]
    verify = shown["verify"]
    drafts = ", ".join(f"{each['model']} on {each['device']}" for each in shown["drafts"]) or "no draft"
    return f"{verify['name']} ({verify['dtype']}, {verify['device']}), drafted for by {drafts}"


def beside(summaries: Sequence[Summary], columns: Columns) -> Iterator[str]:
    """Yield several runs: time per token, tokens/s and speed-up of each contender, a column for each run."""
    for number, summary in enumerate(summaries, 1):
        yield f"[{number}] {summary['name']}: {models(summary)}"
    labels = list(dict.fromkeys(row["contender"] for summary in summaries for row in summary["rows"]))
    body: list[tuple[str, ...]] = [("contender", *(f"[{number}]" for number in range(1, len(summaries) + 1)))]
    body += [(label, *(_beside(summary, label) for summary in summaries)) for label in labels]
    yield ""
    yield from columns(body, numeric=range(1, len(summaries) + 1))


def _beside(summary: Summary, label: str) -> str:
    for row in summary["rows"]:
        if row["contender"] == label:
            shown = f"{row['ms_per_token']['median']:.2f} ms"
            if row["tokens_per_second"] is not None:
                shown += f", {row['tokens_per_second']:.1f}/s"
            for found in summary["speed_ups"]:
                if (found["contender"], found["baseline"]) == (label, summary["baseline"]):
                    shown += f", {times(found['total'])}"
            return shown
    return "-"


def times(found: Mapping[str, float]) -> str:
    """Return a speed-up with its interval."""
    return f"{found['value']:.2f}x ({found['low']:.2f}-{found['high']:.2f})"


def interval(found: Mapping[str, float]) -> str:
    """Return an interval alone."""
    return f"{found['low']:.2f}-{found['high']:.2f}" if "low" in found else "-"


def share(value: float | None) -> str:
    """Return a share in percent."""
    return "-" if value is None else f"{value:.0%}"
