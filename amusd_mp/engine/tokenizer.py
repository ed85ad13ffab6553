"""The model's tokenizer: ids of prompts and conversations, text of ids, and text piece by piece while tokens arrive.

Text is decoded by the tokenizer's own decoder with special tokens left out, so the pieces of a stream join to the text
of the whole. A conversation goes from template to ids in one call: a template rendered to text and tokenized again
gets its special tokens twice. Nothing here touches the device, and no call changes the tokenizer's settings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final

from tokenizers import Tokenizer as Backend
from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerBase

from amusd_mp.core.model import Fingerprint
from amusd_mp.errors import ModelError, RequestError

UNFINISHED: Final = "\N{REPLACEMENT CHARACTER}"

_CONTEXT: Final = 8
"""Prompt tokens a stream starts from: enough for a decoder that strips the space before the first word of a text."""


class ModelTokenizer:
    """A tokenizer with a `tokenizers` backend. Safe to share between threads."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        """Wrap it. Raises ModelError when it has no fast backend, without which text cannot be streamed."""
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Backend):
            raise ModelError(
                f"{name}: {type(tokenizer).__name__} has no fast backend (tokenizer.json), which streaming text needs; "
                "convert it with transformers, or use a model that has one",
                model=name,
            )
        self._tokenizer: Any = tokenizer
        self._backend = backend
        self._special = frozenset(at for at, token in backend.get_added_tokens_decoder().items() if token.special)

    def __repr__(self) -> str:
        return f"<ModelTokenizer {type(self._tokenizer).__name__}, {len(self._tokenizer)} entries>"

    @property
    def eos_id(self) -> int | None:
        """The tokenizer's own end-of-sequence id."""
        found = self._tokenizer.eos_token_id
        return found if isinstance(found, int) else None

    def fingerprint(self, table: int) -> Fingerprint:
        """Return what must agree between two models; ids beyond a model's `table` of that many entries do not count."""
        entries = sorted(
            self._backend.get_vocab(with_added_tokens=True).items(), key=lambda entry: (entry[1], entry[0])
        )
        digest = hashlib.sha256(json.dumps(entries, ensure_ascii=True).encode()).hexdigest()
        special = tuple(sorted(set(self._tokenizer.all_special_ids)))
        return Fingerprint(min(entries[-1][1] + 1, table), digest[:32], special)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of a plain prompt, with the special tokens the model expects in front."""
        return tuple(self._tokenizer(text, verbose=False)["input_ids"])

    def encode_chat(self, messages: Sequence[tuple[str, str]]) -> tuple[int, ...]:
        """Return the ids of a conversation of (role, content), ready for the assistant's answer.

        Raises RequestError when the model has no chat template or the template refuses the messages.
        """
        if not self._tokenizer.chat_template:
            raise RequestError(
                "the model has no chat template; send a plain prompt, or use an instruction-tuned model",
                parameter="messages",
            )
        turns = [{"role": role, "content": content} for role, content in messages]
        try:
            encoded = self._tokenizer.apply_chat_template(
                turns, tokenize=True, add_generation_prompt=True, return_dict=True
            )
        except Exception as error:  # the template is the model's own program and may raise anything
            raise RequestError(f"the chat template refuses the messages: {error}", parameter="messages") from error
        return tuple(encoded["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens left out."""
        return self._backend.decode(list(ids), skip_special_tokens=True)

    def detokenizer(self, prompt: Sequence[int]) -> StreamDetokenizer:
        """Return a fresh incremental decoder for the output that follows `prompt`."""
        context = list(prompt[-_CONTEXT:])
        if self.decode(context).endswith(UNFINISHED):
            context = []  # half a character of the prompt would hold back the output; the text starts afresh
        return StreamDetokenizer(self._backend, self._special, context)


class StreamDetokenizer:
    """Text of one output, token by token. A piece is given out once it ends with a finished character."""

    def __init__(self, backend: Backend, special: frozenset[int], context: list[int]) -> None:
        self._backend = backend
        self._special = special
        self._context = context  # what the pending tokens are decoded behind
        self._pending: list[int] = []
        self._stream = DecodeStream(ids=list(context), skip_special_tokens=True)

    def __repr__(self) -> str:
        return f"<StreamDetokenizer, {len(self._pending)} tokens pending>"

    def feed(self, token: int) -> str:
        """Return the text that `token` completes ("" while a character is unfinished)."""
        if token in self._special:
            return ""
        self._pending.append(token)
        try:
            text = self._stream.step(self._backend, token)
        except Exception:  # byte-fallback decoders may revise what they said about a run of broken bytes
            return self._restart()
        if text is None:
            return ""
        self._context, self._pending = self._pending, []
        return text

    def flush(self) -> str:
        """Return what is left when no token follows (an unfinished character becomes U+FFFD)."""
        return self._restart() if self._pending else ""

    def _restart(self) -> str:
        """Give out everything pending and begin a stream without context."""
        before = self._backend.decode(self._context, skip_special_tokens=True)
        whole = self._backend.decode([*self._context, *self._pending], skip_special_tokens=True)
        text = whole.removeprefix(before) if whole.startswith(before) else self._backend.decode(self._pending)
        self._context, self._pending = [], []
        self._stream = DecodeStream(skip_special_tokens=True)
        return text
