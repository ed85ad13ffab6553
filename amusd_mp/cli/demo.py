"""`amusd-mp demo`: the first run. Two processes of this machine, the bundled pair, nothing to download.

It shows which tokens a draft made, then measures the same prompts under every strategy, and checks that the texts are
the same. The two nodes are those of the ready-made demo.toml, at an address of their own, so it disturbs no other. A
step of the bundled verify model is too cheap for speculation to save anything, so both models are padded: layers that
change no token give their steps the cost of larger models', in the proportion that such pairs have. The output says so,
and `--pad-layers 0 --draft-pad-layers 0` does without.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from amusd_mp.cli.demo_prompts import PROMPTS, DemoPrompt

if TYPE_CHECKING:
    from amusd_mp.cli.comparing import Comparison, Row
    from amusd_mp.client.client import Client

PAD_LAYERS: Final = 30
"""Makes a step of the verify model take 44 ms on one core of an AMD EPYC: what larger models take, within a factor."""

DRAFT_PAD_LAYERS: Final = 14
"""Makes a step of the draft take 15 ms there, 0.35 of that. AMUSD's own pair, 1B for 8B on two GPUs, has 0.49."""

SIBLINGS: Final = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


@dataclass(frozen=True, slots=True)
class Padding:
    """Layers added to each model. False if there are none."""

    verify: int
    draft: int

    def __bool__(self) -> bool:
        return bool(self.verify or self.draft)

    def __str__(self) -> str:
        return f"the verify model by {self.verify} layers, the draft by {self.draft}"


def command(
    prompts: Annotated[int, typer.Option(min=1, max=len(PROMPTS), help="How many prompts.")] = 3,
    max_tokens: Annotated[int, typer.Option(min=1, help="Output tokens per response.")] = 48,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is measured.")] = 2,
    pad_layers: Annotated[
        int, typer.Option(min=0, help="Layers that make the verify model's steps costly and change no token; 0: none.")
    ] = PAD_LAYERS,
    draft_pad_layers: Annotated[
        int, typer.Option(min=0, help="The same for the draft; 0: one that costs next to nothing.")
    ] = DRAFT_PAD_LAYERS,
    show_drafts: Annotated[
        bool, typer.Option("--show-drafts/--no-show-drafts", help="Mark tokens by who made them.")
    ] = True,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the numbers here, too.", show_default=False)
    ] = None,
) -> None:
    """Show and measure speculation between two processes on this machine: no GPU, no download, about a minute."""
    from amusd_mp.cli.comparing import Comparison
    from amusd_mp.cli.loop import run
    from amusd_mp.cli.targets import check_target

    check_target("--json", json_file)
    chosen, cores = PROMPTS[:prompts], two_cores()
    comparison = Comparison([prompt.text for prompt in chosen], max_tokens)
    padding = Padding(verify=pad_layers, draft=draft_pad_layers)
    run(demonstrate(chosen, comparison, rounds, show_drafts, padding, cores))
    comparison.check_texts()
    report(comparison, rounds, padding)
    if json_file is not None:
        json_file.write_text(as_json(comparison, rounds, padding, cores), encoding="utf-8")
        typer.echo(f"The numbers are in {json_file}.")
    typer.echo(NEXT)


async def demonstrate(
    prompts: tuple[DemoPrompt, ...],
    comparison: Comparison,
    rounds: int,
    show_drafts: bool,
    padding: Padding,
    cores: tuple[int, int] | None,
) -> None:
    """Start two nodes, show and measure, stop them."""
    import tempfile

    from amusd_mp.cli.ready_made import ready_made
    from amusd_mp.launcher.cluster import LocalCluster

    where = f"on cores {cores[0]} and {cores[1]}" if cores else "not pinned to cores"
    typer.echo(f"Starting two processes, {where}: the bundled verify model and the draft that guesses for it.")
    if padding:
        typer.echo(PADDED.format(padding))
    with ready_made("demo.toml") as file, tempfile.TemporaryDirectory(prefix="amusd-mp-") as folder:
        sets = [f"nodes.verify.listen=ipc://{folder}/demo.sock"]
        sets += [f"nodes.verify.pad_layers={padding.verify}", f"nodes.draft.pad_layers={padding.draft}"]
        sets += [f"nodes.{name}.max_sequences=1" for name in ("verify", "draft")]  # memory for padding's caches
        if cores is not None:
            sets += [f"nodes.verify.cores=[{cores[0]}]", f"nodes.draft.cores=[{cores[1]}]"]
        async with LocalCluster(file, sets) as cluster, cluster.connect() as client:
            await client.wait_for_draft()
            await warm_up(client, comparison)
            await show(client, prompts, comparison.max_tokens, show_drafts)
            await measure(client, comparison, rounds)


def two_cores() -> tuple[int, int] | None:
    """Return two cores that share no execution units as far as the system tells, None where nodes cannot be pinned."""
    from amusd_mp.node.binding import allowed_cores

    cores = sorted(allowed_cores() or ())
    if len(cores) < 2:
        return None
    try:
        siblings = Path(SIBLINGS.format(cores[0])).read_text(encoding="ascii").strip()
    except OSError:
        return cores[0], cores[1]
    threads: set[int] = set()
    for part in siblings.split(","):
        first, _, last = part.partition("-")
        threads.update(range(int(first), int(last or first) + 1))
    return cores[0], next((core for core in cores[1:] if core not in threads), cores[1])


async def warm_up(client: Client, comparison: Comparison) -> None:
    """Answer once under every strategy, so that no first time is measured."""
    from amusd_mp.cli.comparing import CONTENDERS

    for contender in CONTENDERS:
        await comparison.answer(client, comparison.prompts[0], contender)


async def show(client: Client, prompts: tuple[DemoPrompt, ...], max_tokens: int, show_drafts: bool) -> None:
    """Write an answer to each prompt as it is decided."""
    from amusd_mp.cli.comparing import TIMEOUT
    from amusd_mp.cli.painting import Painter, safe, summary

    painter = Painter(sys.stdout)
    if show_drafts:
        typer.echo("\n".join(["", *painter.meanings()]))
    for prompt in prompts:
        typer.echo(f"\n--- {prompt.name}\n{painter.faint(prompt.text)}", nl=False)
        async with client.stream(
            prompt.text, max_tokens=max_tokens, temperature=0.0, show_rejected=show_drafts, timeout=TIMEOUT
        ) as stream:
            async for chunk in stream:
                typer.echo(painter.chunk(chunk) if show_drafts else safe(chunk.text, sys.stdout), nl=False)
            typer.echo(f"\n{painter.faint(summary(await stream.result()))}")


async def measure(client: Client, comparison: Comparison, rounds: int) -> None:
    """Run the comparison, with a dot for every response."""
    from amusd_mp.cli.comparing import CONTENDERS

    what = f"{len(comparison.prompts)} prompts, {len(CONTENDERS)} strategies in turn, {rounds} rounds"
    typer.echo(f"\nMeasuring {what} ", nl=False)
    await comparison.run(client, rounds, lambda: typer.echo(".", nl=False))
    typer.echo()


def report(comparison: Comparison, rounds: int, padding: Padding) -> None:
    """Write the table, and what the texts have shown."""
    from amusd_mp.cli.columns import columns
    from amusd_mp.cli.comparing import best_alternating

    rows = list(comparison.rows())
    best = best_alternating(rows)
    shown = [row for row in rows if not row.label.startswith("alternating") or row.label == best]
    head = ("strategy", "tokens/s", "speed-up", "acceptance", "tokens per step", "overlap")
    typer.echo()
    for line in columns([head, *map(cells, shown)], numeric=range(1, len(head))):
        typer.echo(line)
    others = ", ".join(
        f"{row.label.removeprefix('alternating, ')} {row.speed_up:.2f}x" for row in rows if row not in shown
    )
    responses = sum(map(len, comparison.results.values()))
    if padding:
        typer.echo(f"(padded: {padding})")
    elif max(row.speed_up for row in rows) < 1.1:
        typer.echo(SMALL)
    typer.echo(
        f"\nMedians of {rounds * len(comparison.prompts)} responses each, speed-ups of pairs; "
        f"alternating with its best k (the others: {others}).\n"
        "'acceptance' is of positions with a guess; 'tokens per step' counts steps that had any.\n"
        f"All {responses} texts are identical, strategy by strategy: speculation changed the time and not one token.\n"
        "Both processes have ended."
    )


def cells(row: Row) -> tuple[str, ...]:
    """Return a row as text."""
    return (
        row.label,
        f"{row.tokens_per_second:.1f}",
        f"{row.speed_up:.2f}x",
        "-" if row.acceptance_rate is None else f"{row.acceptance_rate:.0%}",
        "-" if row.mean_acceptance_length is None else f"{row.mean_acceptance_length:.2f}",
        f"{row.overlap:.0%}",
    )


def as_json(comparison: Comparison, rounds: int, padding: Padding, cores: tuple[int, int] | None) -> str:
    """Return the numbers, the texts and the machine as JSON."""
    import json
    from dataclasses import asdict

    from amusd_mp.cli.comparing import ALONE
    from amusd_mp.cli.env import facts

    texts = [result.text for result in comparison.results[ALONE][: len(comparison.prompts)]]
    content = {
        "environment": dict(facts()),
        "cores": cores,
        "verify_pad_layers": padding.verify,
        "draft_pad_layers": padding.draft,
        "max_tokens": comparison.max_tokens,
        "rounds": rounds,
        "rows": [asdict(row) for row in comparison.rows()],
        "texts": [{"prompt": p, "text": t} for p, t in zip(comparison.prompts, texts, strict=True)],
        "identical": True,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


PADDED: Final = """\
The models are padded ({}): added layers change no token, but make steps cost what those of larger models cost. Without
them steps are so cheap that speculation could save nothing (--pad-layers 0 --draft-pad-layers 0 shows that)."""

SMALL: Final = """
Little or no gain here is no wonder: the bundled models are tiny, so a step of the verify model costs hardly more than a
step of the draft and the message between them. Speculation pays where the verify model is large."""

NEXT: Final = """
Next:  amusd-mp up configs/demo.toml                       the same two processes, to stay
       amusd-mp generate "def add(a, b):" --show-drafts    from another terminal
       amusd-mp chat                                       a conversation
       configs/                                            GPUs, two hosts, your own models"""
