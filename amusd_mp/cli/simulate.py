"""`amusd-mp simulate`: the real nodes in virtual time, thrown into trouble seed by seed, or asked how fast a pair is.

`--seeds` runs scenarios and stops at the first that breaks the invariant; `--replay` shows one as a readable event log;
`--verify-ms` with `--draft-ms` and `--acceptance` prints what a pair would do at a delay. No model, no network.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from amusd_mp.testing.simulation import Run

CHUNK: Final = 10
"""Seeds in one piece of work of a process."""

PROGRESS: Final = 500
"""Seeds per progress line."""

TURNS: Final = (1, 2, 3, 5, 8)
"""Draft tokens per round at which alternating speculation is shown."""


def command(
    seeds: Annotated[int | None, typer.Option(min=1, help="Run this many scenarios.")] = None,
    first: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes to share the seeds.")] = 1,
    replay: Annotated[int | None, typer.Option(min=0, help="Show one seed as an event log.")] = None,
    beats: Annotated[bool, typer.Option("--beats", help="Show beats and hellos in a replay, too.")] = False,
    verify_ms: Annotated[float | None, typer.Option(min=0.001, help="A verify step takes this long.")] = None,
    verify_ms_per_token: Annotated[float, typer.Option(min=0.0, help="... and this for each proposal scored.")] = 0.0,
    draft_ms: Annotated[float | None, typer.Option(min=0.001, help="A draft step takes this long.")] = None,
    acceptance: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of proposals accepted.")] = 0.8,
    delay_ms: Annotated[float, typer.Option(min=0.0, help="A message is on its way this long.")] = 0.0,
    sequences: Annotated[int, typer.Option(min=1, help="Responses written at once.")] = 1,
    tokens: Annotated[int, typer.Option(min=2, help="Tokens of each.")] = 512,
    strategy: Annotated[str | None, typer.Option(help="amusd, alternating or autoregressive; absent: all.")] = None,
    lookahead: Annotated[int, typer.Option(min=1, help="Tokens the draft may run ahead (k when alternating).")] = 16,
) -> None:
    """Run nodes in virtual time: --seeds N, --replay SEED, or --verify-ms and --draft-ms for a pair's speed."""
    from amusd_mp.errors import UsageError

    pair = verify_ms is not None or draft_ms is not None
    if (seeds is not None) + (replay is not None) + pair != 1:
        raise UsageError("say one of --seeds N, --replay SEED, or --verify-ms X --draft-ms Y")
    if seeds is not None:
        search(range(first, first + seeds), jobs)
    elif replay is not None:
        show(replay, beats)
    elif verify_ms is None or draft_ms is None:
        raise UsageError("a pair needs both --verify-ms and --draft-ms")
    else:
        compare(
            schedules(strategy, lookahead),
            verify_ms=verify_ms,
            verify_ms_per_token=verify_ms_per_token,
            draft_ms=draft_ms,
            acceptance=acceptance,
            delay_ms=delay_ms,
            sequences=sequences,
            tokens=tokens,
        )


def compare(schedules: list[tuple[str, int]], **pair: Any) -> None:
    """Print how a pair does under each schedule; `pair` is what `simulate_pair` is told of it."""
    from amusd_mp.cli.columns import columns
    from amusd_mp.testing.simulation import simulate_pair

    rows = [("strategy", "ms/token", "speed", "overlap", "tokens/step")]
    alone = 0.0
    for name, k in schedules:
        result = simulate_pair(**pair, strategy=name, lookahead=k)
        alone = alone or result.ms_per_token
        label = f"{name}, k={k}" if name == "alternating" else name
        speed = f"{alone / result.ms_per_token:.2f}x"
        length = f"{result.mean_acceptance_length:.2f}"
        rows.append((label, f"{result.ms_per_token:.2f}", speed, f"{result.overlap:.0%}", length))
    for line in columns(rows, numeric=range(1, len(rows[0]))):
        typer.echo(line)


def schedules(strategy: str | None, lookahead: int) -> list[tuple[str, int]]:
    """Return what is to be compared: the verify model alone first, as the measure of the others."""
    from amusd_mp.errors import UsageError

    turns = [("alternating", k) for k in (TURNS if strategy is None else (lookahead,))]
    found: dict[str, list[tuple[str, int]]] = {
        "autoregressive": [],
        "alternating": turns,
        "amusd": [("amusd", lookahead)],
    }
    if strategy is None:
        return [("autoregressive", 1), *turns, *found["amusd"]]
    if strategy not in found:
        raise UsageError(f"strategy {strategy!r} is unknown; one of {', '.join(found)}")
    return [("autoregressive", 1), *found[strategy]]


def show(seed: int, beats: bool) -> None:
    """Print one run as an event log. Exit code 1 if it breaks the invariant."""
    from amusd_mp.testing.simulation import draw, run_seed
    from amusd_mp.testing.simulation.report import lines

    run = run_seed(seed, keep=True)
    for line in lines(draw(seed), run, beats=beats):
        typer.echo(line)
    if run.breach:
        raise typer.Exit(1)


def search(seeds: range, jobs: int) -> None:
    """Run seeds in order until one fails. Exit code 1 and the way to replay it if one does."""
    import time
    from collections import Counter

    began = time.monotonic()
    total: Counter[str] = Counter()
    incidents: Counter[str] = Counter()
    done = messages = steps = tokens = resubmissions = 0
    seconds = 0.0
    for chunk in run_chunks([seeds[i : i + CHUNK] for i in range(0, len(seeds), CHUNK)], jobs):
        for run in chunk:
            if run.breach:
                typer.echo(f"seed {run.seed}: {run.breach}")
                typer.echo(f"replay it: amusd-mp simulate --replay {run.seed}")
                raise typer.Exit(1)
            done, messages, steps = done + 1, messages + run.messages, steps + run.steps
            seconds += run.seconds
            total += run.outcomes
            incidents += run.incidents
            tokens, resubmissions = tokens + run.tokens, resubmissions + run.resubmissions
        if done % PROGRESS == 0 or done == len(seeds):
            rate = done / (time.monotonic() - began)
            typer.echo(f"{done} of {len(seeds)} seeds, {rate:.1f} a second, {messages} messages, no breach")
    typer.echo(f"{seconds:.0f} virtual seconds, {steps} device steps, {sum(incidents.values())} incidents:")
    for name, count in incidents.most_common():
        typer.echo(f"  {count:8} {name}")
    typer.echo(f"{tokens} tokens handed out, {resubmissions} resubmissions, {sum(total.values())} requests:")
    for name, count in total.most_common():
        typer.echo(f"  {count:8} {name}")


def run_chunks(chunks: list[range], jobs: int) -> Iterator[list[Run]]:
    """Yield the runs of each chunk, in order, from as many processes as asked for."""
    if jobs == 1:
        yield from map(run_chunk, chunks)
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    pool = ProcessPoolExecutor(jobs, get_context("spawn"))
    try:
        yield from pool.map(run_chunk, chunks)
    finally:
        pool.shutdown(cancel_futures=True)


def run_chunk(seeds: range) -> list[Run]:
    """Run some seeds, up to the first that fails."""
    from amusd_mp.testing.simulation import run_seed

    runs = []
    for seed in seeds:
        runs.append(run_seed(seed))
        if runs[-1].breach:
            break
    return runs
