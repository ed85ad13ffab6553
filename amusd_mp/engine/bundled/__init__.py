"""The bundled pair: a small verify and a small draft model, shipped as package data; README.md is its model card.

They exist so that an install is enough to see speculation work on real text. `train.py` remakes them. Importing this
module reads no weights and loads no model library; the engine opens the folder like any other checkpoint.
"""

from __future__ import annotations

from pathlib import Path

from amusd_mp.errors import ModelError

NAMES = ("verify", "draft")


def folder(name: str) -> Path:
    """Return the checkpoint folder of the bundled model `name`. Raises ModelError listing the names there are."""
    if name not in NAMES:
        known = " and ".join(f"bundled:{each}" for each in NAMES)
        raise ModelError(f"there is no bundled model {name!r}; there are {known}", model=f"bundled:{name}")
    return Path(__file__).parent / name
