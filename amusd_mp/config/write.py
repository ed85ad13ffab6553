"""Write a deployment back as TOML: the resolved configuration of a run, or a file for nodes to read.

Only what a deployment can hold: strings, numbers, booleans and lists of them, in tables.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from amusd_mp.config.deployment import Deployment


def tables_of(deployment: Deployment) -> dict[str, object]:
    """Return a deployment's tables, complete: every key that has a value, defaults included."""
    return {
        "nodes": {name: node.model_dump(mode="json", exclude_none=True) for name, node in deployment.nodes.items()},
        "speculation": {
            "strategy": deployment.speculation.strategy.value,
            "lookahead": deployment.speculation.lookahead,
        },
        "security": deployment.security.model_dump(mode="json", exclude_none=True),
    }


def to_toml(tables: Mapping[str, object]) -> str:
    """Return nested tables as TOML. Raises TypeError for a value that has no place in a deployment."""
    return "\n".join(_table(tables, ())) + "\n"


def _table(table: Mapping[str, object], path: tuple[str, ...]) -> Iterator[str]:
    if path:
        yield f"[{'.'.join(path)}]"
    for key, value in table.items():
        if not isinstance(value, Mapping):
            yield f"{_key(key)} = {_value(value)}"
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _table(value, (*path, _key(key)))


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else json.dumps(key)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value)  # TOML's basic strings take JSON's escapes
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(item) for item in value)}]"
    raise TypeError(f"{value!r} has no place in a deployment file")
