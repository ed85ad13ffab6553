"""Requests as they are read: every parameter known by name, checked, and never ignored if it would change the answer.

Values equal to null count as left out. Parameters of OpenAI's that this server cannot honour are accepted with the
value that means "nothing special" and refused by name with any other; unknown ones are refused, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Literal, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from amusd_mp.core.limits import LOGPROBS, LOOKAHEAD_MAX, STOP_STRINGS
from amusd_mp.gateway.failures import INVALID, Failure, Refused, invalid

BODY_BYTES: Final = 4 << 20
"""A prompt of half a megabyte is the protocol's limit; JSON may write each of its bytes as six."""

CHOICES: Final = 128
"""Responses to one request: OpenAI's limit of `n`."""

_IDENTITY: Final = ("user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention")
"""About the caller and caches, without effect on the answer."""

_NEUTRAL: Final[Mapping[str, tuple[object, ...]]] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": (),
    "verbosity": (),
    "web_search_options": (),
    "moderation": (),
    "store": (False,),
    "service_tier": ("auto", "default"),
    "echo": (False,),
    "suffix": ("",),
    "use_beam_search": (False,),
    "length_penalty": (1, 1.0),
    "prompt_logprobs": (),
    "guided_json": (),
    "structured_outputs": (),
    "truncate_prompt_tokens": (),
    "logits_processors": ([],),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "chat_template": (),
    "add_special_tokens": (),
}
"""What is not supported, and the values under which it asks for nothing."""

_INFINITE: Final = "NaN and Infinity are not JSON"


class Body(BaseModel):
    """What all requests share: nothing unknown, nothing converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class StreamOptions(Body):
    """What a stream should tell beside the text."""

    include_usage: bool = False
    include_obfuscation: bool = False  # OpenAI's padding against who measures packets; nothing is padded here


class Generation(Body):
    """What both endpoints take. The names beyond OpenAI's are vLLM's, and `strategy` and `lookahead` ours."""

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int = Field(1, ge=1, le=CHOICES)
    temperature: float | None = Field(None, ge=0, le=100)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=-(1 << 63), lt=1 << 64)
    stop: str | list[str] = Field(default_factory=list)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    logit_bias: dict[str, float] = Field(default_factory=dict)
    top_k: int | None = Field(None, ge=-1)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=100)
    min_tokens: int = Field(0, ge=0)
    stop_token_ids: list[int] = Field(default_factory=list)
    ignore_eos: bool = False
    strategy: Literal["autoregressive", "alternating", "amusd"] | None = None
    lookahead: int | None = Field(None, ge=1, le=LOOKAHEAD_MAX)


class CompletionRequest(Generation):
    """`POST /v1/completions`."""

    prompt: str | list[str] | list[int] | list[list[int]]
    max_tokens: int = Field(16, ge=1)
    logprobs: int | None = Field(None, ge=0, le=LOGPROBS)
    best_of: int | None = Field(None, ge=1, le=CHOICES)


class TextPart(Body):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


class Message(Body):
    """One turn. Names and tool calls have no place in a plain template."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        """The whole content."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatRequest(Generation):
    """`POST /v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=LOGPROBS)


class TokenizeRequest(Body):
    """`POST /tokenize`: exactly one of `prompt` and `messages`."""

    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = None
    return_token_strs: bool = False


class DetokenizeRequest(Body):
    """`POST /detokenize`."""

    model: str | None = None
    tokens: list[int]


B = TypeVar("B", bound=Body)


async def read(request: Request, kind: type[B]) -> B:
    """Return a request's body, checked. Raises Refused naming the parameter at fault."""
    given = await _json(request)
    left: dict[str, object] = {}
    for name, value in given.items():
        if value is None or name in _IDENTITY:
            continue
        if name in _NEUTRAL and name not in kind.model_fields:
            if not any(type(value) is type(neutral) and value == neutral for neutral in _NEUTRAL[name]):
                raise invalid(f"{name} is not supported by this server; leave it out", name, "unsupported_parameter")
            continue
        if name not in kind.model_fields:
            raise invalid(f"unknown parameter: {name!r}", name, "unknown_parameter")
        left[name] = value
    if "messages" in left:
        left["messages"] = _without_nulls(left["messages"])
    try:
        body = kind.model_validate(left)
    except ValidationError as error:
        _refuse(error)
    if isinstance(body, Generation):
        _check(body)
    return body


async def _json(request: Request) -> dict[str, Any]:
    """Return the body as an object. Raises Refused for what is none, and for too much of it."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # also keeps other sites' pages from sending requests without asking
        raise Refused(Failure(415, "send JSON, with the header Content-Type: application/json", INVALID, code="json"))
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > BODY_BYTES:
            raise Refused(Failure(413, f"the request has over {BODY_BYTES} bytes", INVALID, code="request_too_large"))
    try:
        given = json.loads(content, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise invalid(f"the body is not JSON: {error}", code="invalid_json") from None
    if not isinstance(given, dict):
        raise invalid("the body must be a JSON object", code="invalid_json")
    return given


def _no_constant(name: str) -> NoReturn:
    raise ValueError(_INFINITE)


def _without_nulls(messages: object) -> object:
    if not isinstance(messages, list):
        return messages
    return [{k: v for k, v in each.items() if v is not None} if isinstance(each, dict) else each for each in messages]


def _refuse(error: ValidationError) -> NoReturn:
    """Raise the refusal of the first thing that is wrong, with its place as OpenAI writes it: messages[0].role."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ""
    for step in first["loc"]:
        if isinstance(step, int):
            place += f"[{step}]"
        elif step in ("str", "int") or step.startswith(("list[", "function-", "TextPart")):
            break  # one of several types was tried; which is no news to the caller
        else:
            place += f".{step}" if place else step
    text = first["msg"]
    message, code = {
        "missing": (f"{place} is missing", "missing_required_parameter"),
        "extra_forbidden": (f"{place} is not supported by this server; leave it out", "unsupported_parameter"),
    }.get(first["type"], (f"{place}: {text[:1].lower()}{text[1:]}", "invalid_value"))
    raise invalid(message, place or None, code) from None


def _check(body: Generation) -> None:
    """Raise Refused where parameters contradict each other."""
    if body.stream_options is not None and not body.stream:
        raise invalid("stream_options is allowed only with stream = true", "stream_options")
    stops = [body.stop] if isinstance(body.stop, str) else body.stop
    if len(stops) > STOP_STRINGS:
        raise invalid(f"stop: at most {STOP_STRINGS} strings", "stop")
    if not all(stops):
        raise invalid("stop must not hold an empty string", "stop")
    for key in body.logit_bias:
        if not key.isdecimal() or len(key) > 10:
            raise invalid(f"logit_bias: {key!r} is not a token id", "logit_bias")
    if isinstance(body, ChatRequest):
        if body.top_logprobs is not None and not body.logprobs:
            raise invalid("top_logprobs is allowed only with logprobs = true", "top_logprobs")
        both = body.max_tokens, body.max_completion_tokens
        if None not in both and both[0] != both[1]:
            raise invalid("max_tokens and max_completion_tokens differ; send one of them", "max_tokens")
    if isinstance(body, CompletionRequest):
        if body.best_of not in (None, body.n):
            raise invalid("best_of other than n is not supported by this server", "best_of", "unsupported_parameter")
        many = len(body.prompt) if isinstance(body.prompt, list) and not _ids(body.prompt) else 1
        if many == 0 or body.prompt in ("", []):
            raise invalid("the prompt is empty", "prompt")
        if many * body.n > CHOICES:
            raise invalid(f"{many} prompts with n={body.n} are over {CHOICES} responses", "n")


def _ids(prompt: list[Any]) -> bool:
    return bool(prompt) and isinstance(prompt[0], int)
