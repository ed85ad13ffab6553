"""A causal language model from transformers on one device: the only place that imports torch and transformers.

`load` turns a `ModelSpec` into a `LoadedModel`; what it offers is the `Model` and `Tokenizer` of `amusd_mp.core.model`.
They are imported when first used, for torch takes seconds: `engine.source` says at once whether a name can be a model.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amusd_mp.engine.loading import LoadedModel, load
    from amusd_mp.engine.model import SlotModel

__all__ = ["LoadedModel", "SlotModel", "load"]

_HOME_OF = {
    "LoadedModel": "amusd_mp.engine.loading",
    "SlotModel": "amusd_mp.engine.model",
    "load": "amusd_mp.engine.loading",
}


def __getattr__(name: str) -> object:
    """Import a name when it is first used (PEP 562)."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value
