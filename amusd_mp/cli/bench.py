"""`amusd-mp bench`: how fast is each strategy on these nodes and prompts, how surely, and with what text?

Starts the nodes of a file as `up` does, or reaches running ones with `--url`, measures all contenders in turn, writes a
folder and prints its table. `amusd-mp report` prints it again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amusd_mp.cli.options import File, Sets

if TYPE_CHECKING:
    from amusd_mp.bench.prompts import BenchPrompt
    from amusd_mp.config import Deployment

Prompts = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE[:N]",
        help="Prompts (JSON lines, HumanEval, GSM8K, Spec-Bench), the first N. Repeatable. Absent: the demo's.",
        show_default=False,
    ),
]
Sweep = Annotated[
    str, typer.Option(metavar="K,K,...", help="k of which alternating's best is measured in full, too; '': none.")
]
Lookahead = Annotated[
    int | None, typer.Option(min=1, help="Of the asynchronous strategy; absent: the file's.", show_default=False)
]
Peer = Annotated[
    str | None, typer.Option(help="'assisted': transformers' assisted generation, too.", show_default=False)
]
Url = Annotated[str | None, typer.Option(help="Measure nodes that already run, and start none.", show_default=False)]
Out = Annotated[Path | None, typer.Option(help="The run's folder; absent: a new one in runs/.", show_default=False)]


def command(
    file: File,
    prompts: Prompts = None,
    max_tokens: Annotated[int, typer.Option(min=2, help="Output tokens per response.")] = 128,
    repeats: Annotated[int, typer.Option(min=1, help="How often each is measured.")] = 3,
    warm_up: Annotated[int, typer.Option(min=1, help="Prompts everyone answers before anything counts.")] = 1,
    k: Annotated[int, typer.Option("--k", min=0, help="Alternating's k that is measured in full; 0: none.")] = 5,
    sweep: Sweep = "1,2,3,5,8",
    sweep_prompts: Annotated[int, typer.Option(min=1, help="Prompts the best k is looked for on.")] = 8,
    lookahead: Lookahead = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Prompts answered at once.")] = 1,
    delay_ms: Annotated[float, typer.Option(min=0, help="One-way delay added between draft and verify node.")] = 0.0,
    peer: Peer = None,
    peer_threads: Annotated[str, typer.Option(metavar="N,...", help="The peer's threads, a contender for each.")] = "1",
    temperature: Annotated[float, typer.Option(min=0, help="0: greedy.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Repeat r samples with seed + r.")] = 0,
    ignore_eos: Annotated[bool, typer.Option("--ignore-eos", help="Every response has all its tokens.")] = False,
    timeline: Annotated[bool, typer.Option("--timeline/--no-timeline", help="Record a trace and a picture.")] = True,
    bound: Annotated[
        bool, typer.Option("--bound/--no-bound", help="Compare with the schedule in virtual time; needs a timeline.")
    ] = True,
    url: Url = None,
    sets: Sets = None,
    out: Out = None,
) -> None:
    """Measure every strategy on the same nodes and prompts, and write what was found into a folder."""
    import tempfile
    import time

    from amusd_mp.bench.folder import RunFolder
    from amusd_mp.bench.run import Bench, Plan
    from amusd_mp.bench.tables import lines
    from amusd_mp.bench.writers import Task
    from amusd_mp.cli.columns import columns
    from amusd_mp.cli.env import facts
    from amusd_mp.cli.loop import run
    from amusd_mp.cli.progress import Bar
    from amusd_mp.errors import UsageError

    if peer not in (None, "assisted"):
        raise UsageError(f"--peer {peer!r} is unknown; there is: assisted")
    if url is not None and delay_ms:
        raise UsageError("--delay-ms changes what the draft dials, so it needs nodes that are started here, not --url")
    plan = Plan(
        name=file.stem,
        prompts=read_prompts(prompts or []),
        task=Task(max_tokens, temperature, seed, ignore_eos),
        repeats=repeats,
        warm_up=warm_up,
        concurrency=concurrency,
        fixed=k or None,
        sweep=numbers("--sweep", sweep),
        sweep_prompts=sweep_prompts,
        lookahead=lookahead,
        peer_threads=numbers("--peer-threads", peer_threads) if peer else (),
        delay_ms=delay_ms,
        timeline=timeline,
        environment=dict(facts()),
    )
    with tempfile.TemporaryDirectory(prefix="amusd-mp-") as scratch:
        deployment = placed(file, sets or [], scratch, delay_ms, started=url is None)
        folder = RunFolder(out or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{file.stem}")
        with Bar() as bar:
            found = run(Bench(plan, deployment, folder, bar).run(url))
    if bound:
        from amusd_mp.bench.bound import with_bound

        found = with_bound(found)
        folder.json("summary.json", found)
    for line in lines(found, columns):
        typer.echo(line)
    typer.echo(f"\nin {folder.path}: {', '.join(sorted(each.name for each in folder.path.iterdir()))}")


def read_prompts(sources: list[str]) -> tuple[BenchPrompt, ...]:
    """Return the prompts of all sources, the demo's if there is none."""
    from amusd_mp.bench.prompts import BenchPrompt, read
    from amusd_mp.cli.demo_prompts import PROMPTS

    if not sources:
        return tuple(BenchPrompt(each.name, (each.text,), "demo") for each in PROMPTS)
    return tuple(prompt for source in sources for prompt in read(source))


def numbers(flag: str, text: str) -> tuple[int, ...]:
    """Return positive numbers written with commas. Raises UsageError."""
    from amusd_mp.errors import UsageError

    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise UsageError(f"{flag} {text!r}: write positive numbers with commas between them")
    return tuple(map(int, dict.fromkeys(parts)))


def placed(file: Path, sets: list[str], scratch: str, delay_ms: float, started: bool) -> Deployment:
    """Return the deployment to measure: at a socket of its own if it is started here, its drafts behind the delay."""
    from amusd_mp.config import load_deployment

    deployment = load_deployment(file, sets)
    if not started:
        return deployment
    url = f"ipc://{scratch}/bench.sock"
    sets = [*sets, f"nodes.{deployment.verify()}.listen={url}"]
    if delay_ms:
        sets += [f"nodes.{name}.dial=delay://{delay_ms:g}/{url}" for name in deployment.drafts()]
    return load_deployment(file, sets)
