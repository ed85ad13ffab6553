"""Where a model comes from: a hub id, a local folder, one of the bundled models, or random weights for any of them.

    meta-llama/Llama-3.2-1B          hub id, cached as usual; HF_HUB_OFFLINE=1 is respected
    ./models/mine, /data/mine        a folder with config.json and *.safetensors
    bundled:draft                    a folder of amusd_mp/engine/bundled/
    random:bundled:draft?seed=7      architecture and tokenizer of the rest, weights drawn from the seed (default 0)

Every failure to load becomes a ModelError with the remedy. Nothing is downloaded here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from amusd_mp.errors import ModelError

BUNDLED: Final = Path(__file__).parent / "bundled"

HUB_ID: Final = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?")


@dataclass(frozen=True, slots=True)
class Source:
    """What to give to transformers. `seed` is None for trained weights."""

    name: str
    where: str
    local: bool
    seed: int | None = None


def resolve(name: str) -> Source:
    """Return where the model called `name` is. Raises ModelError when it cannot be there."""
    if name.startswith("random:"):
        rest, mark, query = name.removeprefix("random:").partition("?")
        seed = query.removeprefix("seed=") if mark else "0"
        if (mark and not query.startswith("seed=")) or not seed.isdecimal():
            raise ModelError(f"{name!r}: write random:MODEL or random:MODEL?seed=NUMBER", model=name)
        found = resolve(rest)
        return Source(name, found.where, found.local, int(seed))
    if name.startswith("bundled:"):
        folder = BUNDLED / name.removeprefix("bundled:")
        known = sorted(entry.name for entry in BUNDLED.glob("*") if (entry / "config.json").is_file())
        if folder.name not in known:
            listed = ", ".join(f"bundled:{entry}" for entry in known) or "none in this installation"
            raise ModelError(f"no bundled model {name!r}; there are: {listed}", model=name)
        return Source(name, str(folder), local=True)
    path = Path(name).expanduser()
    if name and path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"{name!r} is a folder without config.json, so no model of transformers", model=name)
        return Source(name, str(path), local=True)
    if not HUB_ID.fullmatch(name) or name.startswith((".", "/", "~")):
        raise ModelError(f"no folder {name!r}; give a folder with config.json, a hub id or bundled:NAME", model=name)
    return Source(name, name, local=False)


@contextmanager
def explained(source: Source, revision: str | None, trust_remote_code: bool) -> Iterator[None]:
    """Turn whatever reading a model's files raises into a ModelError that names the model and the remedy."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # transformers, the hub, safetensors and custom code all raise types of their own
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        if not trust_remote_code and "trust_remote_code" in str(error):
            remedy = "it comes with its own code; read that, then set trust_remote_code = true"
        elif isinstance(error, OSError) and not source.local:
            wanted = source.where + (f" --revision {revision}" if revision else "")
            offline = " while HF_HUB_OFFLINE is set" if os.environ.get("HF_HUB_OFFLINE") else ""
            remedy = f"it is not in the local cache or was not reachable{offline}; fetch it with: hf download {wanted}"
        elif isinstance(error, OSError):
            remedy = "the folder needs config.json, tokenizer files and *.safetensors"
        else:
            remedy = "check that it is a causal language model that this version of transformers knows"
        raise ModelError(
            f"cannot load {source.name!r}: {remedy} ({type(error).__name__}: {first})", model=source.name
        ) from error
