"""`amusd-mp chat`: a conversation, turn by turn, through the verify model's chat template.

Answers are kept exactly as they came: a conversation then begins with the very text of the shorter one before it. Every
turn has a connection of its own, so while a person thinks there is nothing to keep alive and the terminal is ours.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final

import typer

from amusd_mp.cli.address import Address, ConfigFile, ConnectTimeout, KeyFile, ServerKey, Url
from amusd_mp.cli.generate import ShowDrafts
from amusd_mp.cli.sampling import Sampling, with_sampling
from amusd_mp.client.options import Options
from amusd_mp.errors import AmusdError, UsageError

if TYPE_CHECKING:
    from amusd_mp.core.model import ModelCard

HELP: Final = "/reset forgets the conversation, /quit or Ctrl-D leaves, Ctrl-C cancels an answer, /help says this."


@with_sampling
def command(
    url: Url = None,
    config: ConfigFile = None,
    key: KeyFile = None,
    server_key: ServerKey = None,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="The system message.", show_default=False)] = None,
    show_drafts: ShowDrafts = False,
    connect_timeout: ConnectTimeout = 10.0,
    *,
    sampling: Sampling,
) -> None:
    """Talk with the model. Lines come from standard input, a person's or a pipe's."""
    from amusd_mp.cli.address import find
    from amusd_mp.cli.loop import run

    if sampling.logprobs is not None:
        raise UsageError("--logprobs: a chat shows no numbers; use generate --json")
    talk = Talk(
        find(url, config, key, server_key),
        connect_timeout,
        {**sampling.options(), "show_rejected": show_drafts},
        system,
    )
    card = run(talk.meet())
    typer.echo(f"{card.name} at {talk.address.url}. {HELP}", err=True)
    while (line := ask()) is not None:
        match line.strip():
            case "":
                continue
            case "/quit" | "/exit":
                break
            case "/help":
                typer.echo(HELP, err=True)
            case "/reset":
                talk.reset()
                typer.echo("forgotten", err=True)
            case other if other.startswith("/"):
                typer.echo(f"{other.split()[0]} is no command. {HELP}", err=True)
            case _:
                take_turn(talk, line, show_drafts)


def ask() -> str | None:
    """Return the next line of the person or pipe, None at its end. A Ctrl-C only clears the line.

    Raises UsageError for what is no text.
    """
    if not sys.stdin.isatty():
        try:
            line = sys.stdin.readline()
        except UnicodeDecodeError as error:
            raise UsageError(f"standard input is not {error.encoding} text (byte {error.start})") from None
        return line.rstrip("\r\n") if line else None
    import contextlib

    with contextlib.suppress(ImportError):  # Python without it still reads lines, only without arrow keys
        import readline  # noqa: F401
    while True:
        try:
            return input("> ")
        except EOFError:
            typer.echo()
            return None
        except KeyboardInterrupt:
            typer.echo("\n(Ctrl-D or /quit leaves)")


def take_turn(talk: Talk, line: str, show_drafts: bool) -> None:
    """Write one answer. A person goes on after an error or a Ctrl-C; for a pipe, an error is the end."""
    import asyncio

    try:
        asyncio.run(talk.answer(line, show_drafts))
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            from amusd_mp.cli.loop import INTERRUPTED

            raise typer.Exit(INTERRUPTED) from None
        typer.echo("(cancelled)", err=True)
    except AmusdError as error:
        if not sys.stdin.isatty():
            raise
        typer.echo(f"error: {error}", err=True)


@dataclass(slots=True)
class Talk:
    """One conversation. `messages` is what was said, verbatim; `options` are those of every turn."""

    address: Address
    connect_timeout: float
    options: Options
    system: str | None = None
    messages: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all but the system text."""
        self.messages = [] if self.system is None else [{"role": "system", "content": self.system}]

    async def meet(self) -> ModelCard:
        """Return whom we talk to. Raises OperationalError if nobody is there."""
        from amusd_mp.cli.address import reach

        async with reach(self.address, self.connect_timeout) as client:
            return client.model

    async def answer(self, line: str, show_drafts: bool) -> None:
        """Write the answer to a line. What was said before a cancellation stays said; after an error, nothing was."""
        from amusd_mp.cli.address import reach
        from amusd_mp.cli.generate import write

        said: list[str] = []
        asked = [*self.messages, {"role": "user", "content": line}]
        try:
            async with reach(self.address, self.connect_timeout) as client:
                await write(client, None, {**self.options, "messages": asked}, show_drafts, said.append)
        except AmusdError:
            raise
        except BaseException:
            self._keep(asked, said)
            raise
        self._keep(asked, said)

    def _keep(self, asked: list[dict[str, str]], said: list[str]) -> None:
        if said:
            self.messages = [*asked, {"role": "assistant", "content": "".join(said)}]
