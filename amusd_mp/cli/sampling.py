"""The sampling flags that `generate` and `chat` share: the parameters of `Client.stream`, declared once.

`with_sampling` gives a command all of them as flags and hands them over as one `Sampling`. Only the form is checked
here; what a value may be is the verify node's to say.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any, Final, get_type_hints

import typer

from amusd_mp.core.params import Strategy
from amusd_mp.errors import RequestError

_PANEL: Final = "Sampling"
_SHARING: Final = "Speculation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """One value per flag, as typed on the command line."""

    max_tokens: Annotated[
        int | None,
        typer.Option(help="Most output tokens; absent: up to the context.", rich_help_panel=_PANEL, show_default=False),
    ] = None
    min_tokens: Annotated[int, typer.Option(help="No stop before this many.", rich_help_panel=_PANEL)] = 0
    temperature: Annotated[float, typer.Option(help="0 is greedy.", rich_help_panel=_PANEL)] = 0.0
    top_p: Annotated[float, typer.Option(help="Nucleus; 1 is off.", rich_help_panel=_PANEL)] = 1.0
    top_k: Annotated[int, typer.Option(help="Most likely k; 0 is off.", rich_help_panel=_PANEL)] = 0
    min_p: Annotated[float, typer.Option(help="Share of the best probability; 0 is off.", rich_help_panel=_PANEL)] = 0.0
    presence_penalty: Annotated[float, typer.Option(rich_help_panel=_PANEL)] = 0.0
    frequency_penalty: Annotated[float, typer.Option(rich_help_panel=_PANEL)] = 0.0
    repetition_penalty: Annotated[float, typer.Option(help="1 is off.", rich_help_panel=_PANEL)] = 1.0
    logit_bias: Annotated[
        list[str] | None,
        typer.Option(metavar="ID=BIAS", help="Repeatable.", rich_help_panel=_PANEL, show_default=False),
    ] = None
    seed: Annotated[
        int | None,
        typer.Option(help="Same seed, same text; absent: drawn.", rich_help_panel=_PANEL, show_default=False),
    ] = None
    stop: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT", help="Stop before this text. Repeatable.", rich_help_panel=_PANEL, show_default=False
        ),
    ] = None
    stop_token_ids: Annotated[
        str | None, typer.Option(metavar="1,2,3", help="Stop at these ids.", rich_help_panel=_PANEL, show_default=False)
    ] = None
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Do not stop at the end of sequence.", rich_help_panel=_PANEL)
    ] = False
    logprobs: Annotated[
        int | None,
        typer.Option(help="Alternatives per token, with --json.", rich_help_panel=_PANEL, show_default=False),
    ] = None
    strategy: Annotated[
        Strategy | None,
        typer.Option(help="Absent: the deployment's.", rich_help_panel=_SHARING, show_default=False),
    ] = None
    lookahead: Annotated[
        int | None,
        typer.Option(help="Tokens the draft may run ahead.", rich_help_panel=_SHARING, show_default=False),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of `Client.stream`. Raises RequestError for what has not its flag's form."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        given["stop"] = tuple(self.stop or ())
        given["stop_token_ids"] = parse_ids(self.stop_token_ids or "", "--stop-token-ids")
        given["logit_bias"] = dict(_parse_bias(each) for each in self.logit_bias or ())
        return given


def with_sampling(command: Callable[..., None]) -> Callable[..., None]:
    """Return `command` with a flag for each field of `Sampling` in place of its parameter `sampling`."""
    own = inspect.signature(command, eval_str=True).parameters.values()
    hints = get_type_hints(Sampling, include_extras=True)
    flags = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(Sampling)
    ]
    names = {flag.name for flag in flags}

    def with_flags(**given: Any) -> None:
        sampling = Sampling(**{name: given.pop(name) for name in names})
        command(**given, sampling=sampling)

    kept = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own if each.name != "sampling"]
    signature = inspect.Signature([*kept, *flags])
    with_flags.__signature__ = signature  # type: ignore[attr-defined]  # what inspect, and so typer, looks at
    with_flags.__annotations__ = {each.name: each.annotation for each in signature.parameters.values()}
    with_flags.__doc__ = command.__doc__
    return with_flags


def parse_ids(text: str, flag: str) -> tuple[int, ...]:
    """Return the ids in "1, 2, 3". Raises RequestError naming the flag."""
    try:
        return tuple(int(each) for each in text.replace(",", " ").split())
    except ValueError:
        raise RequestError(f"{flag}: {text!r} is no list of token ids; write for example 1,2,3") from None


def _parse_bias(text: str) -> tuple[int, float]:
    token, _, bias = text.partition("=")
    try:
        return int(token), float(bias)
    except ValueError:
        raise RequestError(
            f"--logit-bias: {text!r} is not ID=BIAS; write for example 42=-5", parameter="logit_bias"
        ) from None
