"""Rule: the chunks of a stream join to the decoded whole, in every script and for every emoji; no half character ever.

The verify model is a stub that writes what the test prescribes, through the bundled tokenizer, whose pieces of rare
characters are single bytes; a draft guesses most of them, so that chunks end anywhere.
"""

from __future__ import annotations

import asyncio
import sys
import unicodedata
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
import pytest_asyncio
from stubs import DEADLINE, Cluster
from transformers import AutoTokenizer

from amusd_mp import Client, Finish
from amusd_mp.engine.source import BUNDLED
from amusd_mp.engine.tokenizer import UNFINISHED, ModelTokenizer
from amusd_mp.testing.stub import Stub, StubModel, agreeing_rule

pytestmark = pytest.mark.asyncio(loop_scope="module")

VOCABULARY = 4096
PART = 200
"""Characters of one text: several windows of 64 tokens."""

SEQUENCES = (
    "👩‍👩‍👧‍👦 🏳️‍🌈 🤷🏽‍♀️ 👨🏿‍🚀 🇩🇪🇯🇵🇧🇷 1️⃣#️⃣ ❤️‍🔥 🏴󠁧󠁢󠁳󠁣󠁴󠁿 🧑🏻‍❤️‍💋‍🧑🏿 ☺️☺︎ "
    "e\u0301 n\u0303 a\u0308\u0323 \u1112\u1161\u11ab 한 क्षि ক্ষ நி ខ្មែរ བོད ไทยน้ำ "
    "שָׁלוֹם اَلْعَرَبِيَّةُ \u202eabc\u202c \u200d\u200c \ufeff \ufffd x"
)


def scripts() -> str:
    """Return four characters of every script, and of every other first word that Unicode names begin with."""
    found: dict[str, int] = {}
    kept = []
    for code in range(0xA0, sys.maxunicode + 1):
        name = unicodedata.name(chr(code), "")
        kind = name.split(" ")[0].split("-")[0]
        if name and found.setdefault(kind, 0) < 4:
            found[kind] += 1
            kept.append(chr(code))
    return "".join(kept)


def emoji() -> str:
    """Return every character of the emoji blocks."""
    blocks = ((0x2600, 0x27BF), (0x1F000, 0x1FAFF))
    return "".join(
        chr(code) for low, high in blocks for code in range(low, high + 1) if unicodedata.name(chr(code), "")
    )


def texts() -> list[str]:
    whole = [scripts(), emoji(), SEQUENCES * 3]
    return [each[at : at + PART] for each in whole for at in range(0, len(each), PART)]


TOKENIZER = ModelTokenizer(AutoTokenizer.from_pretrained(str(BUNDLED / "verify")), "bundled")
TEXTS = texts()
CUT = ("漢👍", "🏳️‍🌈x")
SCRIPT = [TOKENIZER.encode(text) for text in (*TEXTS, *CUT)]


def prescribed(ids: Sequence[int]) -> int:
    """Continue a prompt that is a text's number with that text, and end with the end-of-sequence id 0."""
    at = len(ids) - 1
    return SCRIPT[ids[0]][at] if at < len(SCRIPT[ids[0]]) else 0


class Ending(StubModel):
    """A stub with an end-of-sequence id."""

    def __init__(self) -> None:
        super().__init__(prescribed, 8, VOCABULARY)
        self._card = replace(self._card, eos_ids=(0,))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[Client]:
    guess = agreeing_rule(prescribed, 0.8, VOCABULARY)
    models = {
        "truth": lambda: Stub(Ending(), TOKENIZER),
        "guess": lambda: Stub(StubModel(guess, 8, VOCABULARY), TOKENIZER),
    }
    async with Cluster(models=models) as cluster, cluster.client() as client:
        await client.wait_for_draft()
        yield client


async def stream(client: Client, number: int, **options: object) -> tuple[list[str], str, Finish, list[str]]:
    """Return chunks, the result's text, its finish reason, and the texts of its tokens."""
    async with client.stream([number], timeout=DEADLINE, **options) as running:  # type: ignore[arg-type]
        chunks = [chunk.text async for chunk in running]
        result = await running.result()
    return chunks, result.text, result.finish_reason, [token.text for token in result.tokens]


async def test_every_text_arrives_whole(client: Client) -> None:
    assert sum(map(len, SCRIPT[: len(TEXTS)])) > 2 * sum(map(len, TEXTS)), "most characters are made of several tokens"
    room = asyncio.Semaphore(8)

    async def one(number: int) -> None:
        async with room:
            chunks, text, finish, pieces = await stream(client, number)
        assert text == "".join(chunks) == "".join(pieces) == TEXTS[number]
        assert finish is Finish.STOP

    async with asyncio.TaskGroup() as tasks:
        for number in range(len(TEXTS)):
            tasks.create_task(one(number))


@pytest.mark.parametrize("text", CUT)
async def test_a_text_cut_anywhere_reads_as_the_decoded_whole(client: Client, text: str) -> None:
    """What max_tokens leaves of a character is one U+FFFD, at the end and nowhere before."""
    number = len(TEXTS) + CUT.index(text)
    for most in range(1, len(SCRIPT[number]) + 1):
        chunks, got, finish, _ = await stream(client, number, max_tokens=most)
        assert got == "".join(chunks) == TOKENIZER.decode(SCRIPT[number][:most])
        assert UNFINISHED not in got[:-1]
        assert finish is Finish.LENGTH


async def test_a_stop_string_of_many_bytes_is_found_and_nothing_of_it_leaks(client: Client) -> None:
    number = next(at for at, text in enumerate(TEXTS) if text.startswith(SEQUENCES[:9]))
    for stop in ("👨🏿‍🚀", "🇯🇵", "e\u0301", "\ufffd"):
        chunks, text, finish, _ = await stream(client, number, stop=stop)
        assert text == "".join(chunks) == TEXTS[number][: TEXTS[number].index(stop)]
        assert finish is Finish.STOP
