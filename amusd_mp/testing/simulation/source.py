"""A device that only takes its time, by the name that a deployment file gives it in place of a model.

    simulated:verify?step_ms=30&token_ms=0.8           a step takes 30 ms, and 0.8 for each token after the first
    simulated:draft?step_ms=1.5&acceptance=0.7         agrees with the verify model on 70 % of all prefixes
    simulated:draft?step_ms=1.5&acceptance=0.7&seed=4  of another text; all nodes of a deployment have the same seed

Nodes, sockets and clients are real, and no core is burnt: the device's thread sleeps until its step is over. Whatever a
step costs beyond that is the framework's. Tokens are those of `model`, at any temperature, and text is letters.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Final

from amusd_mp.core.model import SIMULATED, ModelCard, ModelSpec
from amusd_mp.core.step import Step, StepResult
from amusd_mp.errors import ModelError
from amusd_mp.runtime import OnProgress
from amusd_mp.testing.simulation.model import SimulatedModel, StepCost, Tokens
from amusd_mp.testing.stub import Stub

LENGTH: Final = 4096
"""Longest sequence unless the node's `max_length` says otherwise, as for a real model."""

EXAMPLES: Final = f"{SIMULATED}verify?step_ms=30&token_ms=0.8 or {SIMULATED}draft?step_ms=1.5&acceptance=0.7"

_KEYS: Final = {
    "verify": ("step_ms", "token_ms", "seed"),
    "draft": ("step_ms", "token_ms", "acceptance", "seed"),
}


@dataclass(frozen=True, slots=True)
class SimulatedSource:
    """What the name of a simulated model says.

    role:        "verify" writes the truth, "draft" guesses it
    step_ms:     milliseconds of a forward pass, and `token_ms` of each token after a row's first one
    acceptance:  chance of each guess to be right
    seed:        of the text; equal on all nodes of a deployment
    """

    role: str
    step_ms: float
    token_ms: float = 0.0
    acceptance: float = 1.0
    seed: int = 1

    def __str__(self) -> str:
        """Return the name; `parse` reads it back."""
        said = {"step_ms": f"{self.step_ms:g}"}
        if self.token_ms:
            said["token_ms"] = f"{self.token_ms:g}"
        if self.role == "draft":
            said["acceptance"] = f"{self.acceptance:g}"
        if self.seed != 1:
            said["seed"] = str(self.seed)
        return f"{SIMULATED}{self.role}?" + "&".join(f"{key}={value}" for key, value in said.items())

    def tokens(self) -> Tokens:
        """Return what it writes."""
        return Tokens(self.seed, self.acceptance, dice=self.seed)


def parse(name: str) -> SimulatedSource:
    """Return what the name of a simulated model says. Raises ModelError naming what is wrong with it."""
    role, _, query = name.removeprefix(SIMULATED).partition("?")
    if role not in _KEYS:
        raise _wrong(name, f"write {EXAMPLES}")
    said: dict[str, str] = {}
    for part in query.split("&") if query else ():
        key, _, value = part.partition("=")
        if key not in _KEYS[role]:
            raise _wrong(name, f"{key!r} is unknown for a {role}; there are {', '.join(_KEYS[role])}")
        if key in said:
            raise _wrong(name, f"{key} is given twice")
        said[key] = value
    if "step_ms" not in said:
        raise _wrong(name, f"step_ms is missing; write {EXAMPLES}")
    seed = said.get("seed", "1")
    if not (seed.isascii() and seed.isdecimal() and int(seed) < 1 << 32):
        raise _wrong(name, f"seed must be a number from 0 to 4294967295, not {seed!r}")
    return SimulatedSource(
        role,
        _number(name, "step_ms", said["step_ms"]),
        _number(name, "token_ms", said.get("token_ms", "0")),
        _number(name, "acceptance", said.get("acceptance", "1"), most=1.0),
        int(seed),
    )


def load(spec: ModelSpec, progress: OnProgress) -> Stub:
    """Return a simulated model that takes real time. Raises ModelError for a wrong name, or for layers to pad."""
    source = parse(spec.model)
    if spec.pad_layers:
        raise ModelError(f"{spec.model} has no layers to add to; remove pad_layers and raise step_ms", model=spec.model)
    cost = StepCost(source.step_ms / 1e3, source.token_ms / 1e3)
    length = LENGTH if spec.max_length is None else spec.max_length
    model = SimulatedModel(source.tokens(), cost, spec.max_sequences, max_length=length)
    progress("ready", 1.0)
    return Stub.of(RealTimeModel(model, str(source)))


class RealTimeModel:
    """A simulated model whose steps really take the time they claim. Implements `core.model.Model`."""

    def __init__(self, model: SimulatedModel, name: str) -> None:
        self._model = model
        self._card = replace(model.card, name=name, device="simulated")

    def __repr__(self) -> str:
        return f"<RealTimeModel {self._card.name}>"

    @property
    def card(self) -> ModelCard:
        return self._card

    @property
    def padding(self) -> float:
        return 1.0  # its steps take what the longest row takes

    @property
    def rows(self) -> int:
        return self._model.rows

    def run(self, step: Step) -> StepResult:
        """Run one step, and sleep until it is over; `seconds` is what that really took."""
        began = time.perf_counter()
        result = self._model.run(step)
        time.sleep(max(0.0, began + result.seconds - time.perf_counter()))
        return replace(result, seconds=time.perf_counter() - began)

    def close(self) -> None:
        """Forget all rows."""
        self._model.close()


def _number(name: str, key: str, text: str, most: float = 1e6) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value <= most:  # also when it is NaN
        raise _wrong(name, f"{key} must be a number from 0 to {most:g}, not {text!r}")
    return value


def _wrong(name: str, what: str) -> ModelError:
    return ModelError(f"model {name!r}: {what}", model=name)
