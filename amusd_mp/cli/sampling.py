"""The sampling flags that `generate` and `chat` share: the client's `Options`, declared once.

`with_sampling` gives a command all of them as flags and hands them over as one `Sampling`. What is left out stays out,
so that the model's own defaults hold. Only the form is checked here; what a value may be is the client's to say.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any, cast, get_type_hints

import typer

from amusd_mp.client.options import Options
from amusd_mp.core.params import Strategy
from amusd_mp.errors import RequestError


def _flag(text: str, panel: str = "Sampling", metavar: str | None = None) -> Any:
    return typer.Option(help=text, rich_help_panel=panel, metavar=metavar, show_default=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """One value per flag, as typed on the command line; None where the flag was left out."""

    max_tokens: Annotated[int | None, _flag("Most output tokens; absent: up to the context.")] = None
    min_tokens: Annotated[int | None, _flag("No stop before this many.")] = None
    temperature: Annotated[float | None, _flag("0 is greedy.")] = None
    top_p: Annotated[float | None, _flag("Nucleus; 1 is off.")] = None
    top_k: Annotated[int | None, _flag("Most likely k; 0 is off.")] = None
    min_p: Annotated[float | None, _flag("Least probability, as a share of the best one; 0 is off.")] = None
    presence_penalty: Annotated[float | None, _flag("For tokens already written; 0 is off.")] = None
    frequency_penalty: Annotated[float | None, _flag("The same, per occurrence; 0 is off.")] = None
    repetition_penalty: Annotated[float | None, _flag("Factor, the prompt included; 1 is off.")] = None
    logit_bias: Annotated[list[str] | None, _flag("Repeatable.", metavar="ID=BIAS")] = None
    seed: Annotated[int | None, _flag("Same seed, same text; absent: drawn.")] = None
    stop: Annotated[list[str] | None, _flag("Stop before this text. Repeatable.", metavar="TEXT")] = None
    stop_token_ids: Annotated[str | None, _flag("Stop at these ids.", metavar="1,2,3")] = None
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Do not stop at the end of sequence.", rich_help_panel="Sampling")
    ] = False
    logprobs: Annotated[int | None, _flag("Alternatives per token, with --json.")] = None
    strategy: Annotated[Strategy | None, _flag("Absent: the deployment's.", "Speculation")] = None
    lookahead: Annotated[int | None, _flag("Tokens the draft may run ahead.", "Speculation")] = None
    resubmit: Annotated[
        bool, typer.Option("--resubmit", help="If the verify node dies, go on when it is back within a minute.")
    ] = False

    def options(self) -> Options:
        """Return what was given, as the client takes it. Raises RequestError for what has not its flag's form."""
        given: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        given["stop_token_ids"] = self.stop_token_ids and parse_ids(self.stop_token_ids, "--stop-token-ids")
        given["logit_bias"] = self.logit_bias and dict(map(_parse_bias, self.logit_bias))
        return cast(Options, {name: value for name, value in given.items() if value is not None and value is not False})


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
