"""The contenders: each a way to answer a prompt, all behind one small interface.

`NodeWriter` asks a deployment, with a strategy and a lookahead of its own; another writer may be another program
altogether (`peer`). A deployment's answers under different strategies come from the same nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from amusd_mp.bench.prompts import BenchPrompt
from amusd_mp.bench.records import Answer, Turn
from amusd_mp.core.params import Strategy
from amusd_mp.errors import RequestError

if TYPE_CHECKING:
    from amusd_mp.client.client import Client
    from amusd_mp.client.options import Options

TIMEOUT: Final = 600.0
"""Seconds one response may take: more than any reasonable one, so that a benchmark never hangs."""


@dataclass(frozen=True, slots=True)
class Task:
    """What every contender is asked for, alike. `chat`: the model has a template for conversations."""

    max_tokens: int
    temperature: float = 0.0
    seed: int = 0
    ignore_eos: bool = False
    chat: bool = False


class Writer(Protocol):
    """One contender."""

    @property
    def label(self) -> str: ...

    async def answer(self, prompt: BenchPrompt, repeat: int) -> Answer:
        """Return all turns of one prompt. Raises what generating raises."""


class NodeWriter:
    """A deployment under one strategy. `lookahead` None is the deployment's own."""

    def __init__(self, client: Client, task: Task, strategy: Strategy, lookahead: int | None = None) -> None:
        self.strategy = strategy
        self.lookahead = lookahead
        self._client = client
        self._task = task

    def __repr__(self) -> str:
        return f"<NodeWriter {self.label}>"

    @property
    def label(self) -> str:
        if self.strategy is Strategy.ALTERNATING:
            return f"{self.strategy}, k={self.lookahead}"
        return self.strategy if self.lookahead is None else f"{self.strategy}, lookahead {self.lookahead}"

    def shortened(self, max_tokens: int) -> NodeWriter:
        """Return the same contender, asked for at most so many tokens."""
        task = replace(self._task, max_tokens=min(max_tokens, self._task.max_tokens))
        return NodeWriter(self._client, task, self.strategy, self.lookahead)

    async def answer(self, prompt: BenchPrompt, repeat: int) -> Answer:
        said: list[tuple[str, str]] = list(prompt.before)
        turns: list[Turn] = []
        for text in prompt.turns:
            said.append(("user", text))
            turns.append(await self._turn(prompt, said, repeat))
            said.append(("assistant", turns[-1].text))
        return Answer(self.label, prompt.id, prompt.category, repeat, tuple(turns))

    async def _turn(self, prompt: BenchPrompt, said: list[tuple[str, str]], repeat: int) -> Turn:
        task = self._task
        options: Options = {
            "max_tokens": task.max_tokens,
            "temperature": task.temperature,
            "seed": task.seed + repeat,
            "ignore_eos": task.ignore_eos,
            "strategy": self.strategy,
            "lookahead": self.lookahead,
            "timeout": TIMEOUT,
        }
        if task.chat and not prompt.plain:
            messages = [{"role": role, "content": content} for role, content in said]
            options["messages"] = messages
            return Turn.of(await self._client.generate(**options))
        return Turn.of(await self._client.generate(as_text(prompt, said), **options))


def as_text(prompt: BenchPrompt, said: list[tuple[str, str]]) -> str:
    """Return what was said as plain text, for a model without a template for conversations."""
    return said[-1][1] if prompt.plain else "\n\n".join(content for _, content in said) + "\n\n"


async def prompt_ids(client: Client, task: Task, prompt: BenchPrompt, said: list[tuple[str, str]]) -> tuple[int, ...]:
    """Return the tokens of a prompt, of which so much was said, as nodes see it."""
    if task.chat and not prompt.plain:
        return await client.tokenize(messages=[{"role": role, "content": content} for role, content in said])
    return await client.tokenize(as_text(prompt, said))


async def has_template(client: Client) -> bool:
    """Return whether the verify model can take a conversation."""
    try:
        await client.tokenize(messages=[{"role": "user", "content": "?"}])
    except RequestError:
        return False
    return True
