"""May this model draft for that one? Only if a token id means the same text to both."""

from __future__ import annotations

from amusd_mp.core.model import ModelCard
from amusd_mp.errors import Mismatch

SHOWN = 2000
"""Characters of a value that a refusal repeats: more than an honest model's special ids take."""

REMEDY = "both models must share one tokenizer"


def compare(ours: ModelCard, theirs: ModelCard) -> None:
    """Raise Mismatch naming what differs between two models' tokenizers, and both values.

    The size of the padded table does not count: it differs inside one model family.
    """
    mine, other = ours.fingerprint, theirs.fingerprint
    for field, a, b in (
        ("vocabulary", mine.vocabulary, other.vocabulary),
        ("vocabulary_hash", mine.vocabulary_hash, other.vocabulary_hash),
        ("special_ids", mine.special_ids, other.special_ids),
    ):
        if a != b:
            shown, wanted = str(b)[:SHOWN], str(a)[:SHOWN]
            raise Mismatch(
                f"{theirs.name} cannot draft for {ours.name}: {field} is {shown}, but must be {wanted}; {REMEDY}",
                field=field,
                ours=wanted,
                theirs=shown,
            )
