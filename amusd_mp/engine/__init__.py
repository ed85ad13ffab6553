"""A causal language model from transformers on one device: the only place that imports torch and transformers.

`load` turns a `ModelSpec` into a `LoadedModel`; what it offers is the `Model` and `Tokenizer` of `amusd_mp.core.model`.
"""

from amusd_mp.engine.load import LoadedModel, load
from amusd_mp.engine.model import SlotModel

__all__ = ["LoadedModel", "SlotModel", "load"]
