"""One node in this process: bind, open, load, say ready, serve, drain, close, and an exit code that tells the truth.

Any scheduler can run it: a JSON line on standard output when it is ready (and a file, if asked for), log lines on
standard error, 0 after a drain, the reason last otherwise. The first SIGINT or SIGTERM drains, the second ends at once.
It knows the contract in `node` and no particular node.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NoReturn

from amusd_mp.config import Deployment
from amusd_mp.core.limits import LIVENESS
from amusd_mp.core.model import SIMULATED, Loaded, ModelSpec
from amusd_mp.errors import AccessDenied, AmusdError, Mismatch, NodeFailed, ProtocolError, UsageError
from amusd_mp.log import Event, LogFormat, Renderer, configure, wants_colour
from amusd_mp.node import Node, NodeContext, find_role
from amusd_mp.node.binding import bind
from amusd_mp.node.signals import StopSignals
from amusd_mp.runtime import OnProgress, Runtime

logger = logging.getLogger(__name__)

DRAIN_TIMEOUT: Final = 30.0
"""Seconds a drain may take: what container schedulers usually grant before they kill."""

CLOSE_TIMEOUT: Final = 5.0
"""Seconds for `Node.close`; its sockets linger half a second."""


def load_model(spec: ModelSpec, progress: OnProgress) -> Loaded:
    """Load a model with the engine, which is imported here and not before: it brings torch. Raises ModelError.

    A name that can be no model is refused before that, at once.
    """
    if spec.model.startswith(SIMULATED):
        from amusd_mp.testing.simulation import source

        return source.load(spec, progress)
    from amusd_mp.engine.source import resolve

    resolve(spec.model)
    from amusd_mp.engine.loading import load

    return load(spec, progress)


def prepare(name: str, deployment: Deployment) -> NodeContext:
    """Bind this process to a node's device and return what the node is given. Raises ConfigError."""
    config = bind(name, deployment.node(name))
    return NodeContext(name, config, deployment, Runtime(), load_model)


def announce(fields: Mapping[str, object], ready_file: Path | None = None) -> None:
    """Write the ready line: to `ready_file`, if there is one, and to standard output."""
    write_ready_file(fields, ready_file)
    print(json.dumps(fields), flush=True)  # noqa: T201  # the program's output, not a log


def write_ready_file(fields: Mapping[str, object], ready_file: Path | None) -> None:
    """Write the ready line to a file so that a reader sees all of it or none."""
    if ready_file is not None:
        draft = ready_file.with_name(f".{ready_file.name}.{os.getpid()}")
        draft.write_text(json.dumps(fields) + "\n", encoding="utf-8")
        draft.replace(ready_file)


def forget(ready_file: Path | None) -> None:
    """Remove a ready file: it must not outlive what it says."""
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)


Announce = Callable[[Mapping[str, object], Path | None], None]


async def run_node(
    context: NodeContext,
    *,
    ready_file: Path | None = None,
    announce: Announce = announce,
    drain_timeout: float = DRAIN_TIMEOUT,
    signals: StopSignals | None = None,
) -> None:
    """Run a node until it has drained. Returns after a drain, or after a stop before it was ready.

    Raises ConfigError for an unknown role, NodeFailed when the drain outlasts `drain_timeout` seconds, and whatever
    `open`, `load` or `serve` raise. `close` has been called when this returns or raises.
    """
    node = find_role(context.config.role)(context)
    loop = asyncio.get_running_loop()
    asked, ready = asyncio.Event(), asyncio.Event()
    with contextlib.ExitStack() as stack:
        signals = signals or stack.enter_context(StopSignals())
        signals.watch(lambda: wake(loop, asked))
        work = asyncio.create_task(_work(node, ready, ready_file, announce), name=f"{context.name} work")
        asking = asyncio.create_task(asked.wait(), name=f"{context.name} stop")
        try:
            await asyncio.wait({work, asking}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and not ready.is_set():
                logger.info("asked to stop before it was ready")
            elif not work.done():
                logger.info("draining")
                node.drain()
                # with nothing left it may stay for who missed an end (`Desk.linger`)
                patience = drain_timeout + LIVENESS
                await asyncio.wait({work}, timeout=patience)
                if not work.done():
                    raise NodeFailed(
                        f"the drain was not over after {patience:g} s, {LIVENESS:g} more than --drain-timeout;"
                        " what still ran was cut off",
                        node=context.name,
                    )
            if work.done():
                work.result()
        finally:
            for task in (work, asking):
                task.cancel()
            await asyncio.wait({work, asking}, timeout=CLOSE_TIMEOUT)
            await _close(node)
            forget(ready_file)


def wake(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    """Set a loop's event from a signal handler. A loop that is already closed needs no waking."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(event.set)


async def _work(node: Node, ready: asyncio.Event, ready_file: Path | None, announce: Announce) -> None:
    name, role = node.context.name, node.context.config.role
    forget(ready_file)  # an earlier life's
    began = time.monotonic()
    facts = await node.open()
    with lasting():
        await node.load(log_progress())
    fields: dict[str, object] = {"event": "ready", "node": name, "role": role, "pid": os.getpid(), **facts}
    logger.info("ready after %.1f s%s", time.monotonic() - began, f" at {facts['url']}" if "url" in facts else "")
    ready.set()
    announce(fields, ready_file)
    await node.serve()
    logger.info("done")


@contextlib.contextmanager
def lasting() -> Iterator[None]:
    """Keep the garbage collector from what is made in this block and stays: libraries and weights.

    To look through them while they come takes an eighth of the time of importing them, and once they are there a fifth
    of a second of some step.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
    gc.collect()
    gc.freeze()


async def _close(node: Node) -> None:
    """Close a node; a failure in it is logged, because the reason why the node ended matters more."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await node.close()
    except TimeoutError:
        logger.warning("closing took longer than %g s and was given up", CLOSE_TIMEOUT)
    except Exception:
        logger.exception("closing failed")


def log_progress() -> OnProgress:
    """Return a progress callback that logs each new stage, and each tenth of the way."""
    told: tuple[str, int] | None = None

    def progress(what: str, share: float) -> None:
        nonlocal told
        tenth = int(share * 10)
        if (what, tenth) != told:
            told = (what, tenth)
            logger.info("loading %3.0f %%  %s", share * 100, what)

    return progress


def exit_when_stdin_ends() -> None:
    """End this process at once when its standard input ends, which it does however the parent dies.

    On a thread of its own, so that a stuck loop or device cannot keep an orphan, and its device's memory, alive.
    """

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        with contextlib.suppress(OSError):
            os.write(2, b"error: the parent process is gone\n")
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def exit_code(error: BaseException) -> int:
    """Return a node's exit code for an error: 2 for what a new life of it would only meet again, else 1.

    That is a call, a file or a model that is wrong, or being refused: its key, its model, its protocol, or its life,
    where another one has its name.
    """
    return 2 if isinstance(error, UsageError | AccessDenied | Mismatch | ProtocolError) else 1


def run_process(
    name: str,
    read: Callable[[], Deployment],
    *,
    ready_file: Path | None = None,
    drain_timeout: float = DRAIN_TIMEOUT,
    log_format: LogFormat = LogFormat.AUTO,
    debug: bool = False,
    exit_with_stdin: bool = False,
) -> NoReturn:
    """Be the node `name` of the deployment that `read` returns: run it, then end the process.

    Ends by `os._exit`: a load that was given up or a hung device has a thread that the interpreter would wait for.
    """
    renderer = Renderer(log_format, wants_colour(sys.stderr, os.environ))
    configure(name, renderer, debug=debug)
    code = 0
    with StopSignals() as signals:
        if exit_with_stdin:
            exit_when_stdin_ends()
        try:
            context = prepare(name, read())
            asyncio.run(run_node(context, ready_file=ready_file, drain_timeout=drain_timeout, signals=signals))
        except Exception as error:
            code = exit_code(error)
            if debug or not isinstance(error, AmusdError):
                logger.exception("failed")
            message = str(error) if isinstance(error, AmusdError) else f"{type(error).__name__}: {error}"
            fatal = Event(name, " ".join(message.split()), "error", time.time(), fatal=True)
            print(renderer.fatal(fatal), file=sys.stderr, flush=True)  # noqa: T201
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(code)
