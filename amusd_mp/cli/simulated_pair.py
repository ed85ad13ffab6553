"""`amusd-mp bench --simulate`: devices in place of models, in real time in the nodes of a file, or in virtual time.

Knows which flags of `bench` belong together, and turns them into overrides of a deployment or into a comparison.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from amusd_mp.config import Deployment

FILE: Final = "bench-simulated.toml"
"""The ready-made deployment that is measured when no file is given."""

Simulate = Annotated[bool, typer.Option("--simulate", help="Devices that only take their time in place of models.")]
Virtual = Annotated[bool, typer.Option("--virtual", help="With --simulate: in virtual time, and no process at all.")]
VerifyMs = Annotated[
    float | None, typer.Option(min=0.001, max=1e6, help="A simulated verify step takes this.", show_default=False)
]
PerToken = Annotated[
    float | None, typer.Option(min=0, max=1e6, help="... and this for each proposal; absent: 0.", show_default=False)
]
DraftMs = Annotated[
    float | None, typer.Option(min=0.001, max=1e6, help="A simulated draft step takes this.", show_default=False)
]
Acceptance = Annotated[
    float | None, typer.Option(min=0, max=1, help="Share of proposals accepted; absent: 0.8.", show_default=False)
]


@dataclass(frozen=True, slots=True)
class Pair:
    """The simulated devices of a benchmark; times in milliseconds."""

    verify_ms: float
    verify_ms_per_token: float
    draft_ms: float
    acceptance: float

    @property
    def times(self) -> tuple[float, float, float]:
        """Milliseconds of a verify step, of each proposal in it, and of a draft step."""
        return self.verify_ms, self.verify_ms_per_token, self.draft_ms

    def sets(self, deployment: Deployment) -> list[str]:
        """Return the overrides that put these devices in place of a deployment's models."""
        from amusd_mp.testing.simulation.source import SimulatedSource

        verify = SimulatedSource("verify", self.verify_ms, self.verify_ms_per_token)
        draft = SimulatedSource("draft", self.draft_ms, acceptance=self.acceptance)
        found = [(deployment.verify(), verify), *((name, draft) for name in deployment.drafts())]
        keys = ("model={}", "device=cpu", "pad_layers=0")  # neither a GPU nor layers are wanted where nothing computes
        return [f"nodes.{name}.{key.format(source)}" for name, source in found for key in keys]

    def compare(
        self, alternating: list[int], lookahead: int | None, *, delay_ms: float, sequences: int, tokens: int
    ) -> None:
        """Print what these devices do in virtual time, each k of `alternating` beside the others."""
        from amusd_mp.cli.simulate import compare
        from amusd_mp.core.limits import LOOKAHEAD

        typer.echo(f"simulated, in virtual time: {self}, {delay_ms:g} ms a message, {sequences} at once")
        compare(
            [("autoregressive", 1), *(("alternating", k) for k in alternating), ("amusd", lookahead or LOOKAHEAD)],
            verify_ms=self.verify_ms,
            verify_ms_per_token=self.verify_ms_per_token,
            draft_ms=self.draft_ms,
            acceptance=self.acceptance,
            delay_ms=delay_ms,
            sequences=sequences,
            tokens=tokens,
        )

    def __str__(self) -> str:
        step = f"verify step {self.verify_ms:g} ms + {self.verify_ms_per_token:g} a proposal"
        return f"{step}, draft step {self.draft_ms:g} ms, acceptance {self.acceptance:g}"


def pair_of(
    simulate: bool,
    verify_ms: float | None,
    verify_ms_per_token: float | None,
    draft_ms: float | None,
    acceptance: float | None,
    unfit: dict[str, bool],
) -> Pair | None:
    """Return the devices that flags describe, None without `--simulate`.

    `unfit` tells which given flags cannot go with simulated devices. Raises UsageError for flags that do not fit.
    """
    from amusd_mp.errors import UsageError

    named = {
        "--verify-ms": verify_ms,
        "--verify-ms-per-token": verify_ms_per_token,
        "--draft-ms": draft_ms,
        "--acceptance": acceptance,
    }
    if not simulate:
        given = [flag for flag, value in named.items() if value is not None]
        if given:
            raise UsageError(f"{', '.join(given)}: of simulated devices; say --simulate, too")
        return None
    if verify_ms is None or draft_ms is None:
        raise UsageError("--simulate needs both --verify-ms and --draft-ms: what a step of each device takes")
    refused = [flag for flag, given in unfit.items() if given]
    if refused:
        raise UsageError(f"{', '.join(refused)}: not with --simulate, whose devices are started here and draw nothing")
    return Pair(verify_ms, verify_ms_per_token or 0.0, draft_ms, 0.8 if acceptance is None else acceptance)


def virtual_pair(pair: Pair | None, unfit: dict[str, bool]) -> Pair:
    """Return the devices to compare in virtual time, where no node is started and no file is written.

    `unfit` tells which given flags have no meaning there. Raises UsageError for one, or without devices.
    """
    from amusd_mp.errors import UsageError

    if pair is None:
        raise UsageError("--virtual is a way to --simulate; say that, too")
    refused = [flag for flag, given in unfit.items() if given]
    if refused:
        raise UsageError(f"{', '.join(refused)}: not with --virtual, which starts no node and writes no file")
    return pair
