"""Bind this process to one device, before a model library is imported and reads the environment.

Knows environment variables and the scheduler, not torch. Must run on the main thread while it is the only one: threads
started later inherit the cores.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from typing import Final

from amusd_mp.config import NodeConfig
from amusd_mp.errors import ConfigError

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
_THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def bind(name: str, config: NodeConfig, environ: MutableMapping[str, str] = os.environ) -> NodeConfig:
    """Pin the process to the node's cores, threads and GPU; return the table as this process now sees it.

    A GPU `cuda:N` becomes the only visible one and is `cuda:0` from here on. Raises ConfigError for what is absent.
    """
    if config.cores is not None:
        pin(name, config.cores)
    if config.threads is not None:
        for variable in _THREAD_VARIABLES:
            environ[variable] = str(config.threads)
    if config.device.startswith("cuda:") and "torch" not in sys.modules:  # torch may have read the variable already
        environ[VISIBLE] = visible_device(name, int(config.device.removeprefix("cuda:")), environ.get(VISIBLE))
        return config.model_copy(update={"device": "cuda:0"})
    return config


def allowed_cores() -> frozenset[int] | None:
    """Return the CPU cores this process may use, None where the system does not tell (macOS, Windows)."""
    tell = getattr(os, "sched_getaffinity", None)
    return frozenset(tell(0)) if tell else None


def pin(name: str, cores: tuple[int, ...]) -> None:
    """Run on these cores only. Raises ConfigError for a core that is absent or not allowed, or where it cannot be."""
    allowed = allowed_cores()
    if allowed is None:
        raise ConfigError(f"nodes.{name}.cores: this system cannot pin a process; remove the key", key="cores")
    absent = sorted(set(cores) - allowed)
    if absent:
        raise ConfigError(
            f"nodes.{name}.cores: no core {', '.join(map(str, absent))}; this process may use"
            f" {', '.join(map(str, sorted(allowed)))}",
            key="cores",
        )
    os.sched_setaffinity(0, cores)


def visible_device(name: str, number: int, visible: str | None) -> str:
    """Return the entry of CUDA_VISIBLE_DEVICES that `cuda:number` means. Raises ConfigError if there is none."""
    if visible is None:
        return str(number)
    entries = [entry.strip() for entry in visible.split(",") if entry.strip()]
    if number >= len(entries):
        raise ConfigError(
            f"nodes.{name}.device: no cuda:{number}; {VISIBLE}={visible!r} shows {len(entries)} GPU(s)", key="device"
        )
    return entries[number]
