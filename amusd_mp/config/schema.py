"""Every key a deployment file may hold, with its type, default and meaning. The only place with defaults.

Pure types: nothing here reads a file, resolves a name or knows where a value came from. `load` fills them, `document`
prints them. Frozen, and strict: `threads = "2"` is an error, not two.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from amusd_mp.core.limits import LOOKAHEAD, LOOKAHEAD_MAX
from amusd_mp.core.model import ModelSpec
from amusd_mp.core.params import Speculation, Strategy
from amusd_mp.errors import ConfigError
from amusd_mp.transport.credentials import is_key

VERIFY: Final = "verify"
DRAFT: Final = "draft"
GATEWAY: Final = "gateway"
DEFAULT_LISTEN: Final = "tcp://127.0.0.1:5601"
"""What a verify node binds when the file does not say: loopback, so that nothing is exposed by accident."""

DEFAULT_HTTP: Final = "http://127.0.0.1:8000"
"""The same for a gateway."""

_DTYPE_WORDS = {"bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32", "float": "float32"}


def _device(value: str) -> str:
    if value == "cuda":
        raise ValueError("a node is bound to one device; write cuda:0")
    if not re.fullmatch(r"cpu|mps|cuda:\d{1,3}", value):
        raise ValueError(f"{value!r} is not a device; write cpu, mps or cuda:N")
    return value


def _dtype(value: str) -> str:
    if value in _DTYPE_WORDS:
        raise ValueError(f"{value!r} is called {_DTYPE_WORDS[value]!r} here")
    if value not in ("auto", "float32", "bfloat16", "float16"):
        raise ValueError(f"{value!r} is not a dtype; write auto, float32, bfloat16 or float16")
    return value


def _cores(value: tuple[int, ...]) -> tuple[int, ...]:
    if not value or len(set(value)) != len(value) or min(value) < 0:
        raise ValueError("write different core numbers, for example [0, 1]")
    return value


def _public_key(value: str) -> str:
    if not is_key(value):
        raise ValueError(f"{value!r} is no public key; it has 40 characters, as `amusd-mp keys new` prints it")
    return value


class Section(BaseModel):
    """What all tables share: frozen, strict, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class NodeConfig(Section):
    """One table `[nodes.NAME]`."""

    role: str = Field(
        min_length=1, description="what the node is: `verify`, `draft`, `gateway`, or a role another package installs"
    )
    model: str | None = Field(
        default=None,
        min_length=1,
        description="hub id, folder (relative to the file), `bundled:verify`, `bundled:draft`, `random:MODEL?seed=N`"
        " (its architecture with random weights), or `simulated:...` (docs/benchmark.md); a gateway has none",
    )
    device: Annotated[str, AfterValidator(_device)] = Field(
        default="cpu", description="`cpu`, `mps` or `cuda:N`, the N-th of the GPUs that are visible"
    )
    dtype: Annotated[str, AfterValidator(_dtype)] = Field(
        default="auto", description="`float32`, `bfloat16`, `float16`, or `auto`: the checkpoint's own"
    )
    host: str | None = Field(default=None, min_length=1, description="the host it runs on; absent: this machine")
    listen: str | None = Field(
        default=None,
        description=f"URL it binds; without it a verify node binds `{DEFAULT_LISTEN}`, a gateway `{DEFAULT_HTTP}`."
        " Port 0 takes a free one",
    )
    address: str | None = Field(default=None, description="URL that others dial, where that is not what it binds")
    dial: str | None = Field(default=None, description="a node's name or a URL; draft and gateway need it")
    threads: int | None = Field(
        default=None, ge=1, le=4096, description="CPU threads of the device; absent: torch's choice"
    )
    cores: Annotated[tuple[int, ...], Field(strict=False), AfterValidator(_cores)] | None = Field(
        default=None, description="CPU cores the process is pinned to, a list of numbers; absent: all that are allowed"
    )
    max_sequences: int = Field(
        default=8, ge=1, le=4096, description="sequences held at once; each reserves a cache row"
    )
    max_length: int | None = Field(
        default=None,
        ge=2,
        description="longest sequence in tokens, prompt included; absent: the model's own, at most 4096",
    )
    revision: str | None = Field(default=None, min_length=1, description="branch, tag or commit of a hub model")
    trust_remote_code: bool = Field(default=False, description="run Python code that comes with the model")
    attention: Literal["slot", "sdpa"] = Field(
        default="slot",
        description="`slot`: our own, with which a token's result does not depend on what else is in the step;"
        " `sdpa`: torch's kernels",
    )
    fixed_shapes: bool = Field(
        default=False,
        description="pad every pass to one of few shapes: 16-bit text is the same each time; each pass costs as much as"
        " `max_sequences` rows",
    )
    pad_layers: int = Field(
        default=0,
        ge=0,
        le=4096,
        description="benchmarks only: layers added that cost what a layer costs and change no token; always labelled",
    )
    draft_temperature: float | None = Field(
        default=None, ge=0, le=100, description="temperature a draft node guesses with; absent: the request's own"
    )
    api_key: str | None = Field(
        default=None, min_length=1, repr=False, description="what callers of a gateway must know; absent: nothing"
    )
    api_key_from: str | None = Field(
        default=None, min_length=1, description="environment variable of the gateway that holds its `api_key`"
    )
    key: str | None = Field(
        default=None,
        min_length=1,
        description="file of the node's own secret key (`amusd-mp keys new`), on the host where it runs",
    )
    resubmit: bool = Field(
        default=False,
        description="a gateway: when the verify node dies, responses wait up to a minute for its next life and go on",
    )
    restart: Literal["never", "on-failure"] = Field(
        default="never",
        description="`on-failure`: `up` starts the node again when it fails after it was ready, unless it was refused;"
        " `never`: its failure stops the others",
    )

    def spec(self) -> ModelSpec:
        """Return what the engine needs to load this node's model. Raises ConfigError if it has none."""
        if self.model is None:
            raise ConfigError(f"a node of role {self.role!r} has no model; add model = ... to its table", key="model")
        return ModelSpec(
            model=self.model,
            device=self.device,
            dtype=self.dtype,
            max_sequences=self.max_sequences,
            max_length=self.max_length,
            threads=self.threads,
            revision=self.revision,
            trust_remote_code=self.trust_remote_code,
            attention=self.attention,
            fixed_shapes=self.fixed_shapes,
            pad_layers=self.pad_layers,
        )


class SpeculationConfig(Section):
    """The table `[speculation]`: the default of every request."""

    strategy: Annotated[Strategy, Field(strict=False)] = Field(
        default=Strategy.AMUSD,
        description="`amusd` (both all the time), `alternating` (in turns), `autoregressive` (no draft)",
    )
    lookahead: int = Field(
        default=LOOKAHEAD,
        ge=1,
        le=LOOKAHEAD_MAX,
        description="1 to 256: tokens the draft may run ahead, fewer where more are hardly accepted; under"
        " `alternating` its k",
    )

    def rule(self) -> Speculation:
        """Return the same as the core's type."""
        return Speculation(strategy=self.strategy, lookahead=self.lookahead)


class SecurityConfig(Section):
    """The table `[security]`."""

    insecure: bool = Field(
        default=False,
        description="allow listening off loopback without encryption: whoever reaches the port may use it",
    )
    server_key: Annotated[str, AfterValidator(_public_key)] | None = Field(
        default=None, description="the verify node's public key; turns encryption on, and whoever dials insists on it"
    )
    allow: str | None = Field(
        default=None,
        min_length=1,
        description="file of the public keys that may connect, and as what; read where the verify node runs",
    )
    client_key: str | None = Field(
        default=None,
        min_length=1,
        description="file of the secret key that commands take, and nodes that dial and have no `key` of their own",
    )


SECTIONS: Final[dict[str, type[Section]]] = {
    "nodes": NodeConfig,
    "speculation": SpeculationConfig,
    "security": SecurityConfig,
}
"""The tables of a file; `nodes` holds one per node."""


def known_keys(table: str) -> tuple[str, ...]:
    """Return the keys of a table of `SECTIONS`."""
    return tuple(SECTIONS[table].model_fields)


def wants_text(table: str, key: str) -> bool:
    """True for a key whose value is a string, so that `revision=123` given on a command line stays text."""
    field = SECTIONS[table].model_fields.get(key)
    return field is not None and field.annotation in (str, str | None)
