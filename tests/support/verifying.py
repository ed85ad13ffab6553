"""A verify core with a sequence in it, and short ways to guess for it and to answer its steps."""

from __future__ import annotations

from amusd_mp.core.messages import Draft, Window
from amusd_mp.core.output import Output
from amusd_mp.core.params import GenerationParams, Speculation, Strategy
from amusd_mp.core.step import Picked, Step, StepResult
from amusd_mp.core.verify import VerifyCore
from amusd_mp.core.verify_sequence import VerifySequence
from amusd_mp.testing.stub import StubDetokenizer

EOS = 0


def opened(
    core: VerifyCore, name: str = "s", prompt: int = 3, strategy: Strategy = Strategy.AMUSD, lookahead: int = 4,
    **params: int | bool,
) -> VerifySequence:  # fmt: skip
    wanted = GenerationParams(**{"max_tokens": 20, **params})  # type: ignore[arg-type]
    ids = list(range(1, prompt + 1))
    output = Output(wanted, StubDetokenizer(), (EOS,), wanted.max_tokens or 20)
    sequence = VerifySequence(
        name, "c", wanted, Speculation(strategy, lookahead), ids, prompt, 10_000, output, opened=0.0
    )
    core.open(sequence)
    return sequence


def answer(core: VerifyCore, step: Step | None, *picks: tuple[int, ...], now: float = 0.0) -> list[VerifySequence]:
    assert step is not None
    return core.apply(StepResult(step.number, tuple(Picked(each) for each in picks), 0.001), now)


def started(strategy: Strategy = Strategy.AMUSD, **params: int) -> tuple[VerifyCore, VerifySequence]:
    """A core with a joined draft and one sequence that has its prefill's token, 10."""
    core = VerifyCore(rows=2, vocabulary=1000)
    core.join_draft("d")
    sequence = opened(core, strategy=strategy, **params)
    answer(core, core.plan(0.0), (10,))
    return core, sequence


def guess(sequence: VerifySequence, *tokens: int, base: int | None = None, full: bool = False) -> Draft:
    return Draft(
        "v",
        (
            Window(
                sequence.name, sequence.version, sequence.length if base is None else base, tokens,
                full=full, drafted=len(tokens),
            ),
        ),
    )  # fmt: skip


def origins(sequence: VerifySequence) -> str:
    return "".join(sequence.origins)
