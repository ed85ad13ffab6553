"""Deployment files: read, checked, typed and frozen, with every default in one place (`schema`).

`load_deployment(path, sets)` gives a `Deployment`. Nothing here starts a process, opens a socket or loads a model.
"""

from __future__ import annotations

from amusd_mp.config.deployment import Deployment
from amusd_mp.config.load import examine, load_deployment
from amusd_mp.config.schema import NodeConfig, SecurityConfig, SpeculationConfig

__all__ = ["Deployment", "NodeConfig", "SecurityConfig", "SpeculationConfig", "examine", "load_deployment"]
