"""`amusd-mp generate PROMPT`: one response, written as it is decided; as JSON, or with its tokens marked, on request.

The text goes to standard output, everything about it to standard error, so a pipe gets the text alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amusd_mp.cli.address import ConfigFile, ConnectTimeout, KeyFile, ServerKey, Url
from amusd_mp.cli.sampling import Sampling, parse_ids, with_sampling

if TYPE_CHECKING:
    from amusd_mp.client.client import Client
    from amusd_mp.client.options import Options, Prompt
    from amusd_mp.client.results import GenerationResult, Token

ShowDrafts = Annotated[bool, typer.Option("--show-drafts", help="Mark tokens by who made them.")]


@with_sampling
def command(
    prompt: Annotated[str | None, typer.Argument(help="The text to continue.", show_default=False)] = None,
    url: Url = None,
    config: ConfigFile = None,
    key: KeyFile = None,
    server_key: ServerKey = None,
    prompt_file: Annotated[
        Path | None, typer.Option(help="Read the prompt from a file; - is standard input.", show_default=False)
    ] = None,
    ids: Annotated[
        str | None, typer.Option(metavar="1,2,3", help="The prompt as token ids.", show_default=False)
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Responses, written side by side; number i has seed + i.")] = 1,
    show_drafts: ShowDrafts = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write one JSON object per response at the end instead of text.")
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0.1, help="Seconds for the whole response.", show_default=False)
    ] = None,
    connect_timeout: ConnectTimeout = 10.0,
    *,
    sampling: Sampling,
) -> None:
    """Continue a prompt. Ctrl-C cancels it on the nodes, too."""
    from amusd_mp.cli.address import find
    from amusd_mp.cli.loop import run
    from amusd_mp.errors import UsageError

    if sampling.logprobs is not None and not as_json:
        raise UsageError("--logprobs tells its numbers in JSON: add --json")
    what = read_prompt(prompt, prompt_file, ids)
    options: Options = {**sampling.options(), "show_rejected": show_drafts, "timeout": timeout}
    address = find(url, config, key, server_key)

    async def ask() -> None:
        from amusd_mp.cli.address import reach

        async with reach(address, connect_timeout) as client:
            if as_json or n > 1:
                write_samples(await client.sample(what, n, **options), as_json, show_drafts)
            else:
                await write(client, what, options, show_drafts)

    run(ask())


def read_prompt(prompt: str | None, file: Path | None, ids: str | None) -> str | tuple[int, ...]:
    """Return what to continue. Raises UsageError unless it was given once, in a form that can be read."""
    import sys

    from amusd_mp.errors import UsageError

    if sum(each is not None for each in (prompt, file, ids)) != 1:
        raise UsageError("give one of PROMPT, --prompt-file and --ids")
    if prompt is not None:
        return prompt
    if ids is not None:
        return parse_ids(ids, "--ids")
    try:
        raw = sys.stdin.buffer.read() if file == Path("-") else Path(str(file)).read_bytes()
        return raw.decode("utf-8")
    except OSError as error:
        raise UsageError(f"--prompt-file: {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"--prompt-file: {file} is not UTF-8 text (byte {error.start})") from None


async def write(
    client: Client,
    prompt: Prompt | None,
    options: Options,
    show_drafts: bool,
    on_text: Callable[[str], object] | None = None,
) -> GenerationResult:
    """Stream one response to standard output and return it; marked, with legend and summary, if `show_drafts`.

    `on_text` gets every piece of text as it came.
    """
    import sys

    from amusd_mp.cli.painting import Painter, safe, summary

    painter = Painter(sys.stdout)
    if show_drafts:
        typer.echo(painter.legend(), err=True)
    async with client.stream(prompt, **options) as stream:
        try:
            async for chunk in stream:
                if on_text is not None:
                    on_text(chunk.text)
                typer.echo(painter.chunk(chunk) if show_drafts else safe(chunk.text, sys.stdout), nl=False)
        finally:
            typer.echo()  # also where it breaks off, so that what follows begins on a line of its own
        result = await stream.result()
    if show_drafts:
        typer.echo(summary(result), err=True)
    return result


def write_samples(results: Sequence[GenerationResult], as_json: bool, show_drafts: bool) -> None:
    """Write finished responses one after the other: everything about each as a line of JSON, or its text."""
    import json
    import sys

    from amusd_mp.cli.painting import Painter, safe, summary
    from amusd_mp.client.results import Chunk

    painter = Painter(sys.stdout)
    if show_drafts and not as_json:
        typer.echo(painter.legend(), err=True)
    for number, result in enumerate(results, start=1):
        if as_json:
            typer.echo(json.dumps(as_fields(result), ensure_ascii=False))
            continue
        typer.echo(f"{number} of {len(results)}, seed {result.seed}:", err=True)
        shown = painter.chunk(Chunk(result.text, result.tokens)) if show_drafts else safe(result.text, sys.stdout)
        typer.echo(shown)
        if show_drafts:
            typer.echo(summary(result), err=True)


def as_fields(result: GenerationResult) -> dict[str, Any]:
    """Return a response as plain fields; per token what it is, where it came from and what it added."""
    from dataclasses import asdict

    return {
        "text": result.text,
        "tokens": [token_fields(token) for token in result.tokens],
        "finish_reason": result.finish_reason.value,
        "prompt_tokens": result.prompt_tokens,
        "seed": result.seed,
        "time_to_first_token": result.time_to_first_token,
        "seconds": result.seconds,
        "tokens_per_second": result.tokens_per_second,
        "resubmissions": result.resubmissions,
        "speculative_decoding": asdict(result.speculative_decoding),
    }


def token_fields(token: Token) -> dict[str, Any]:
    """Return one token as plain fields; what is absent is left out."""
    fields: dict[str, Any] = {"id": token.id, "origin": token.origin.name.lower(), "text": token.text}
    if token.rejected:
        fields["rejected"] = list(token.rejected)
    if token.rejected_text:
        fields["rejected_text"] = token.rejected_text
    if token.logprob is not None:
        fields["logprob"] = finite(token.logprob.logprob)
        fields["top_logprobs"] = [[token_id, finite(value)] for token_id, value in token.logprob.top]
    return fields


def finite(value: float) -> float | None:
    """Return a log probability as JSON can hold it: null for an impossible token's."""
    return value if value > float("-inf") else None
