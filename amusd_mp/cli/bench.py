"""`amusd-mp bench`: how fast is each strategy on these nodes and prompts, how surely, and with what text?

Starts the nodes of a file as `up` does, or reaches running ones with `--url`, measures all contenders in turn, writes a
folder and prints its table. `amusd-mp report` prints it again. `--simulate` measures the same without models.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amusd_mp.cli.options import Sets
from amusd_mp.cli.simulated_pair import Acceptance, DraftMs, PerToken, Simulate, VerifyMs, Virtual

if TYPE_CHECKING:
    from amusd_mp.bench.prompts import BenchPrompt
    from amusd_mp.cli.simulated_pair import Pair
    from amusd_mp.config import Deployment

File = Annotated[
    Path | None,
    typer.Argument(help="A deployment file (TOML); with --simulate or --url it may be absent.", show_default=False),
]
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
    str | None,
    typer.Option(
        metavar="KIND,...",
        help="transformers itself, too: 'assisted' generation, and 'alone', the verify model without a draft.",
        show_default=False,
    ),
]
Url = Annotated[str | None, typer.Option(help="Measure nodes that already run, and start none.", show_default=False)]
Out = Annotated[Path | None, typer.Option(help="The run's folder; absent: a new one in runs/.", show_default=False)]


def command(
    file: File = None,
    prompts: Prompts = None,
    max_tokens: Annotated[int, typer.Option(min=2, help="Output tokens per response.")] = 128,
    repeats: Annotated[int, typer.Option(min=1, help="How often each is measured.")] = 3,
    warm_up: Annotated[int, typer.Option(min=1, help="Prompts everyone answers before anything counts.")] = 1,
    k: Annotated[int, typer.Option("--k", min=0, help="Alternating's k that is measured in full; 0: none.")] = 5,
    sweep: Sweep = "1,2,3,5,8",
    sweep_prompts: Annotated[int, typer.Option(min=1, help="Prompts the best k is looked for on.")] = 8,
    lookahead: Lookahead = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "--sequences", min=1, help="Prompts answered at once.")
    ] = 1,
    cold: Annotated[
        bool, typer.Option("--cold", help="Every contender computes all prompts itself, as with several at once.")
    ] = False,
    delay_ms: Annotated[float, typer.Option(min=0, help="One-way delay added between draft and verify node.")] = 0.0,
    peer: Peer = None,
    peer_threads: Annotated[
        str, typer.Option(metavar="N,...", help="The peer's threads; it runs once for each number.")
    ] = "1",
    temperature: Annotated[float, typer.Option(min=0, help="0: greedy.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Repeat r samples with seed + r.")] = 0,
    ignore_eos: Annotated[bool, typer.Option("--ignore-eos", help="Every response has all its tokens.")] = False,
    timeline: Annotated[bool, typer.Option("--timeline/--no-timeline", help="Record a trace and a picture.")] = True,
    bound: Annotated[
        bool, typer.Option("--bound/--no-bound", help="Compare with the schedule in virtual time; needs a timeline.")
    ] = True,
    url: Url = None,
    simulate: Simulate = False,
    verify_ms: VerifyMs = None,
    verify_ms_per_token: PerToken = None,
    draft_ms: DraftMs = None,
    acceptance: Acceptance = None,
    virtual: Virtual = False,
    sets: Sets = None,
    out: Out = None,
) -> None:
    """Measure every strategy on the same nodes and prompts, and write what was found into a folder."""
    import tempfile
    import time
    from contextlib import ExitStack

    from amusd_mp.bench.folder import SUMMARY, RunFolder
    from amusd_mp.bench.plan import Plan
    from amusd_mp.bench.run import Bench
    from amusd_mp.bench.tables import lines
    from amusd_mp.bench.writers import Task
    from amusd_mp.cli.columns import columns
    from amusd_mp.cli.env import facts
    from amusd_mp.cli.loop import run
    from amusd_mp.cli.progress import Bar
    from amusd_mp.cli.ready_made import ready_made
    from amusd_mp.cli.simulated_pair import FILE, pair_of, virtual_pair
    from amusd_mp.config import Deployment
    from amusd_mp.errors import UsageError

    peers = kinds(peer or "")
    if peers and (concurrency > 1 or cold):
        how = "that nodes have computed, not --cold" if cold else f"at a time, not --concurrency {concurrency}"
        raise UsageError(f"--peer: it answers one prompt {how}; leave one out")
    if peers and temperature:
        raise UsageError("--peer: transformers is compared under greedy decoding alone; leave out --temperature")
    if url is not None and delay_ms:
        raise UsageError("--delay-ms changes what the draft dials, so it needs nodes that are started here, not --url")
    unfit = {"--url": url is not None, "--peer": bool(peers), "--temperature": temperature > 0}
    pair = pair_of(simulate, verify_ms, verify_ms_per_token, draft_ms, acceptance, unfit)
    swept = numbers("--sweep", sweep)
    if virtual:
        unfit = {"FILE": file is not None, "--prompts": bool(prompts), "--set": bool(sets), "--out": out is not None}
        alternating = sorted({*swept, *([k] if k else [])})
        virtual_pair(pair, unfit).compare(
            alternating, lookahead, delay_ms=delay_ms, sequences=concurrency, tokens=max_tokens
        )
        return
    if file is None and pair is None and url is None:
        flags = "--url URL, or --simulate with --verify-ms and --draft-ms"
        raise UsageError(f"say which deployment FILE to measure, {flags}")
    if file is None and url is not None and sets:
        raise UsageError("--set changes a deployment FILE, and --url without one measures nodes as they are")
    if file is None and peers:
        raise UsageError("--peer loads the models of a deployment FILE, so name that beside --url")
    stem = file.stem if file else "simulated" if pair else "nodes"
    plan = Plan(
        name=f"{stem}, simulated" if pair and file else stem,
        prompts=read_prompts(prompts or []),
        task=Task(max_tokens, temperature, seed, ignore_eos),
        repeats=repeats,
        warm_up=warm_up,
        concurrency=concurrency,
        cold=cold,
        fixed=k or None,
        sweep=swept,
        sweep_prompts=sweep_prompts,
        lookahead=lookahead,
        peers=peers,
        peer_threads=numbers("--peer-threads", peer_threads),
        delay_ms=delay_ms,
        timeline=timeline,
        environment=dict(facts()),
    )
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="amusd-mp-"))
        if file is None and url is not None:
            deployment = Deployment({})
        else:
            chosen = file or stack.enter_context(ready_made(FILE))
            deployment = placed(chosen, sets or [], scratch, delay_ms, started=url is None, pair=pair)
        if peers:
            refuse_peer(deployment)
        folder = RunFolder(out or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{stem}")
        with Bar() as bar:
            found = run(Bench(plan, deployment, folder, bar).run(url))
    if bound:
        from amusd_mp.bench.bound import with_bound

        found = with_bound(found, pair.times if pair else None)
        folder.json(SUMMARY, found)
        if "bounds" not in found:
            typer.echo("no bound: it needs one prompt at once, a timeline, and alternating with a fixed k\n", err=True)
    for line in lines(found, columns):
        typer.echo(line)
    typer.echo(f"\nin {folder.path}: {', '.join(sorted(each.name for each in folder.path.iterdir()))}")


def read_prompts(sources: list[str]) -> tuple[BenchPrompt, ...]:
    """Return the prompts of all sources, the demo's if there is none."""
    from collections import Counter

    from amusd_mp.bench.prompts import BenchPrompt, read
    from amusd_mp.cli.demo_prompts import PROMPTS
    from amusd_mp.errors import UsageError

    if not sources:
        return tuple(BenchPrompt(each.name, (each.text,), "demo") for each in PROMPTS)
    prompts = tuple(prompt for source in sources for prompt in read(source))
    ((name, times),) = Counter(prompt.id for prompt in prompts).most_common(1)
    if times > 1:
        raise UsageError(f"--prompts: {times} prompts have the id {name!r}, and answers are told apart by it")
    return prompts


def kinds(text: str) -> tuple[str, ...]:
    """Return what transformers is asked for, written with commas. Raises UsageError."""
    from amusd_mp.bench.peer import KINDS
    from amusd_mp.errors import UsageError

    parts = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for part in parts:
        if part not in KINDS:
            raise UsageError(f"--peer {part!r} is unknown; there are: {', '.join(KINDS)}")
    return parts


def numbers(flag: str, text: str) -> tuple[int, ...]:
    """Return positive numbers written with commas. Raises UsageError."""
    from amusd_mp.errors import UsageError

    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise UsageError(f"{flag} {text!r}: write positive numbers with commas between them")
    return tuple(map(int, dict.fromkeys(parts)))


def refuse_peer(deployment: Deployment) -> None:
    """Raise UsageError where another program would have to load a model that is none."""
    from amusd_mp.core.model import SIMULATED
    from amusd_mp.errors import UsageError

    if any((node.model or "").startswith(SIMULATED) for node in deployment.nodes.values()):
        raise UsageError(f"--peer: {deployment.where} has simulated devices, which another program cannot load")


def placed(
    file: Path, sets: list[str], scratch: str, delay_ms: float, started: bool, pair: Pair | None = None
) -> Deployment:
    """Return the deployment to measure: at a socket of its own if it is started here, its drafts behind the delay.

    `pair` are simulated devices in place of its models.
    """
    from amusd_mp.config import load_deployment

    deployment = load_deployment(file, sets)
    if not started:
        return deployment
    url = f"ipc://{scratch}/bench.sock"
    verify = deployment.verify()
    sets = [*sets, f"nodes.{verify}.listen={url}", f"nodes.{verify}.address={url}"]
    if pair is not None:
        sets += pair.sets(deployment)
    if delay_ms:
        sets += [f"nodes.{name}.dial=delay://{delay_ms:g}/{url}" for name in deployment.drafts()]
    return load_deployment(file, sets)
