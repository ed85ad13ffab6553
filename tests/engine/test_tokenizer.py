"""Text given out piece by piece joins to the text of the whole, whatever the tokens; chats use their template."""

from __future__ import annotations

import random
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from amusd_mp.engine.source import BUNDLED
from amusd_mp.engine.tokenizer import ModelTokenizer
from amusd_mp.errors import ModelError, RequestError

TEXTS = [
    "plain words, and a line\nbreak\t tab",
    "emoji 👩‍👩‍👧‍👦 🏳️‍🌈 🤷🏽‍♀️ end",
    "漢字とかな交じり文、한국어 문장",
    "combining e\u0301 n\u0303 a\u0308\u0323 marks",
    "עברית العربية हिन्दी ไทย",
    "\ufffd a replacement character of its own \ufffd",
    "",
]


@pytest.fixture(scope="module")
def byte_level() -> ModelTokenizer:
    """The bundled tokenizer: byte-level BPE."""
    file = str(BUNDLED / "verify" / "tokenizer.json")
    return ModelTokenizer(PreTrainedTokenizerFast(tokenizer_file=file, eos_token="<|endoftext|>"), "bundled")


@pytest.fixture(scope="module")
def byte_fallback() -> ModelTokenizer:
    """A tokenizer in the manner of Llama 2: words with a leading mark, and bytes for everything unknown."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdehlorw,", "▁a", "he"]
    backend = Tokenizer(
        models.BPE({piece: at for at, piece in enumerate(pieces)}, [("▁", "a"), ("h", "e")], byte_fallback=True)
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.pre_tokenizer = pre_tokenizers.Split("\n", "isolated")
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    return ModelTokenizer(fast, "byte-fallback")


def pieces_of(tokenizer: ModelTokenizer, ids: list[int], prompt: tuple[int, ...] = ()) -> list[str]:
    stream = tokenizer.detokenizer(prompt)
    return [*(stream.feed(token) for token in ids), stream.flush()]


@pytest.mark.parametrize("name", ["byte_level", "byte_fallback"])
@pytest.mark.parametrize("text", TEXTS)
def test_pieces_join_to_the_whole(name: str, text: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(name)
    ids = list(tokenizer.encode(text))
    assert tokenizer.decode(ids) == text
    pieces = pieces_of(tokenizer, ids)
    assert "".join(pieces) == text


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_join_to_the_whole(seed: int, byte_level: ModelTokenizer) -> None:
    draw = random.Random(seed)
    ids = [draw.randrange(4096) if draw.random() < 0.4 else draw.randrange(1, 257) for _ in range(120)]
    assert "".join(pieces_of(byte_level, ids)) == byte_level.decode(ids)


@pytest.mark.parametrize("seed", range(20))
def test_random_fallback_bytes_end_and_keep_what_is_whole(seed: int, byte_fallback: ModelTokenizer) -> None:
    # This decoder revises earlier characters of a broken run of bytes, so only the text around it can be promised.
    draw = random.Random(seed)
    letter = byte_fallback.encode("h")[-1]
    ids = [draw.randrange(3, 259) if draw.random() < 0.5 else letter for _ in range(60)]
    text = "".join(pieces_of(byte_fallback, ids))
    assert text.count("h") == byte_fallback.decode(ids).count("h")


def test_a_character_is_never_split(byte_level: ModelTokenizer) -> None:
    pieces = pieces_of(byte_level, list(byte_level.encode("漢👍")))
    assert [piece for piece in pieces if piece] == ["漢", "👍"]


def test_an_unfinished_character_is_replaced_at_the_end(byte_level: ModelTokenizer) -> None:
    ids = list(byte_level.encode("ok 👍"))[:-1]
    assert pieces_of(byte_level, ids)[-1].startswith("\ufffd")
    assert "".join(pieces_of(byte_level, ids)) == byte_level.decode(ids)


def test_special_tokens_leave_no_text(byte_level: ModelTokenizer) -> None:
    ids = [0, *byte_level.encode("a"), 0, *byte_level.encode("b"), 0]
    assert "".join(pieces_of(byte_level, ids)) == byte_level.decode(ids) == "ab"


def test_the_space_before_the_first_word_follows_the_prompt(byte_fallback: ModelTokenizer) -> None:
    prompt = byte_fallback.encode("hello")
    word = list(byte_fallback.encode("a world"))
    assert "".join(pieces_of(byte_fallback, word, prompt)) == " a world"
    assert "".join(pieces_of(byte_fallback, word)) == "a world"


def test_a_prompt_that_ends_within_a_character_holds_nothing_back(byte_level: ModelTokenizer) -> None:
    prompt = byte_level.encode("text 👍")[:-1]
    assert "".join(pieces_of(byte_level, list(byte_level.encode("next")), prompt)) == "next"


def chat(tokenizer: ModelTokenizer, template: str) -> ModelTokenizer:
    file = str(BUNDLED / "verify" / "tokenizer.json")
    return ModelTokenizer(PreTrainedTokenizerFast(tokenizer_file=file, chat_template=template), "chat")


def test_a_conversation_goes_through_the_template_in_one_call(byte_level: ModelTokenizer) -> None:
    template = "{% for m in messages %}<|endoftext|>{{ m.role }}: {{ m.content }}\n{% endfor %}"
    model = chat(byte_level, template + "{% if add_generation_prompt %}assistant:{% endif %}")
    ids = model.encode_chat([("user", "hi")])
    assert ids == (0, *byte_level.encode("user: hi\nassistant:"))


def test_what_the_template_refuses_is_the_callers_error(byte_level: ModelTokenizer) -> None:
    model = chat(byte_level, "{{ raise_exception('roles must alternate') }}")
    with pytest.raises(RequestError, match="roles must alternate"):
        model.encode_chat([("user", "hi"), ("user", "again")])


def test_without_a_template_a_conversation_is_refused(byte_level: ModelTokenizer) -> None:
    with pytest.raises(RequestError, match="no chat template"):
        byte_level.encode_chat([("user", "hi")])


def test_the_fingerprint_tells_vocabularies_apart(byte_level: ModelTokenizer, byte_fallback: ModelTokenizer) -> None:
    ours, other = byte_level.fingerprint(5000), byte_fallback.fingerprint(5000)
    assert (ours.vocabulary, ours.special_ids) == (4096, (0,))
    assert ours.vocabulary_hash != other.vocabulary_hash
    assert byte_level.fingerprint(4096) == ours, "a padded table changes nothing"
    assert byte_level.fingerprint(4000).vocabulary == 4000


def test_a_tokenizer_without_a_fast_backend_is_refused() -> None:
    slow: Any = object()
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        ModelTokenizer(slow, "slow/model")
