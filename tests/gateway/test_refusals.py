"""Rule: what cannot be honoured is refused in OpenAI's shape, naming the parameter; nothing is silently ignored."""

from __future__ import annotations

import json
from enum import Enum
from typing import Any

import httpx
import pytest

MODEL = "bundled:verify"
COMPLETION = {"model": MODEL, "prompt": "x", "max_tokens": 1}
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
TEXT = "/v1/completions"
TALK = "/v1/chat/completions"
INVALID = "invalid_request_error"
JSON = {"Content-Type": "application/json"}


class Gone(Enum):
    """What stands for a key that is left out; its name is the same in every process, as a test's name must be."""

    GONE = "gone"


GONE = Gone.GONE


def turn(**message: Any) -> dict[str, Any]:
    return {"messages": [message]}


CASES: list[tuple[str, dict[str, Any], str | None]] = [
    (TEXT, {"model": GONE}, "model"),
    (TEXT, {"model": 5}, "model"),
    (TEXT, {"prompt": GONE}, "prompt"),
    (TEXT, {"prompt": None}, "prompt"),
    (TEXT, {"prompt": ""}, "prompt"),
    (TEXT, {"prompt": []}, "prompt"),
    (TEXT, {"prompt": {"a": 1}}, "prompt"),
    (TEXT, {"prompt": [5, "x"]}, "prompt"),
    (TEXT, {"prompt": [4096]}, "prompt"),
    (TEXT, {"prompt": [-1]}, "prompt"),
    (TEXT, {"prompt": [5] * 2048}, "prompt"),
    (TEXT, {"prompt": "\ud800"}, "prompt"),
    (TEXT, {"max_tokens": 0}, "max_tokens"),
    (TEXT, {"max_tokens": -1}, "max_tokens"),
    (TEXT, {"max_tokens": 1.5}, "max_tokens"),
    (TEXT, {"max_tokens": "5"}, "max_tokens"),
    (TEXT, {"max_tokens": True}, "max_tokens"),
    (TEXT, {"temperature": -0.1}, "temperature"),
    (TEXT, {"temperature": "hot"}, "temperature"),
    (TEXT, {"top_p": 0}, "top_p"),
    (TEXT, {"top_p": 1.1}, "top_p"),
    (TEXT, {"top_k": -2}, "top_k"),
    (TEXT, {"min_p": 2}, "min_p"),
    (TEXT, {"n": 0}, "n"),
    (TEXT, {"n": 129}, "n"),
    (TEXT, {"n": 3, "prompt": ["x"] * 50}, "n"),
    (TEXT, {"best_of": 2}, "best_of"),
    (TEXT, {"echo": True}, "echo"),
    (TEXT, {"suffix": "end"}, "suffix"),
    (TEXT, {"logprobs": 21}, "logprobs"),
    (TEXT, {"logprobs": True}, "logprobs"),
    (TEXT, {"presence_penalty": 2.5}, "presence_penalty"),
    (TEXT, {"frequency_penalty": -3}, "frequency_penalty"),
    (TEXT, {"repetition_penalty": 0}, "repetition_penalty"),
    (TEXT, {"logit_bias": {"x": 1}}, "logit_bias"),
    (TEXT, {"logit_bias": {"4096": 1}}, "logit_bias"),
    (TEXT, {"logit_bias": {"5": 101}}, "logit_bias"),
    (TEXT, {"logit_bias": [1]}, "logit_bias"),
    (TEXT, {"stop": ""}, "stop"),
    (TEXT, {"stop": ["a"] * 17}, "stop"),
    (TEXT, {"stop": 5}, "stop"),
    (TEXT, {"stop_token_ids": [9999]}, "stop_token_ids"),
    (TEXT, {"seed": 1 << 64}, "seed"),
    (TEXT, {"seed": "1"}, "seed"),
    (TEXT, {"min_tokens": 2}, "min_tokens"),
    (TEXT, {"stream": "yes"}, "stream"),
    (TEXT, {"stream_options": {"include_usage": True}}, "stream_options"),
    (TEXT, {"stream": True, "stream_options": {"include_obfuscation": 5}}, "stream_options.include_obfuscation"),
    (TEXT, {"strategy": "magic"}, "strategy"),
    (TEXT, {"lookahead": 0}, "lookahead"),
    (TEXT, {"temprature": 1}, "temprature"),
    (TEXT, {"use_beam_search": True}, "use_beam_search"),
    (TEXT, {"\ud800": 1}, "\\ud800"),
    (TEXT, {"max_tokens": 1 << 70}, "prompt"),
    (TEXT, {"stream": True, "prompt": [4096]}, "prompt"),
    (TALK, {"messages": GONE}, "messages"),
    (TALK, {"messages": []}, "messages"),
    (TALK, {"messages": "hi"}, "messages"),
    (TALK, {"messages": ["hi"]}, "messages[0]"),
    (TALK, turn(role="user"), "messages[0].content"),
    (TALK, turn(content="x"), "messages[0].role"),
    (TALK, turn(role="robot", content="x"), "messages[0].role"),
    (TALK, turn(role="tool", content="x", tool_call_id="1"), "messages[0].role"),
    (TALK, turn(role="user", content="x", name="ann"), "messages[0].name"),
    (TALK, turn(role="user", content=[{"type": "image_url", "image_url": {"url": "x"}}]), "messages[0].content"),
    (TALK, {"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    (TALK, {"tool_choice": "required"}, "tool_choice"),
    (TALK, {"functions": [{"name": "f"}]}, "functions"),
    (TALK, {"response_format": {"type": "json_object"}}, "response_format"),
    (TALK, {"reasoning_effort": "high"}, "reasoning_effort"),
    (TALK, {"modalities": ["audio"]}, "modalities"),
    (TALK, {"store": True}, "store"),
    (TALK, {"logprobs": 3}, "logprobs"),
    (TALK, {"top_logprobs": 3}, "top_logprobs"),
    (TALK, {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    (TALK, {"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens"),
    (TALK, {"prompt": "x"}, "prompt"),
    ("/tokenize", {"model": GONE, "max_tokens": GONE, "prompt": GONE}, "prompt"),
    ("/tokenize", {"max_tokens": GONE, "prompt": 5}, "prompt"),
    ("/tokenize", {"max_tokens": GONE, "prompt": "\ud800"}, "prompt"),
    ("/tokenize", {"max_tokens": GONE, "prompt": "x" * 600_000}, "prompt"),
    ("/detokenize", {"prompt": GONE, "max_tokens": GONE}, "tokens"),
    ("/detokenize", {"prompt": GONE, "max_tokens": GONE, "tokens": [4096]}, "tokens"),
    ("/detokenize", {"prompt": GONE, "max_tokens": GONE, "tokens": [-1]}, "tokens"),
    ("/live/generate", {"model": GONE, "max_tokens": 0}, "max_tokens"),
]


@pytest.mark.parametrize(("path", "changes", "param"), CASES, ids=lambda each: str(each)[:60])
def test_a_request_that_is_wrong_names_its_parameter(
    http: httpx.Client, path: str, changes: dict[str, Any], param: str | None
) -> None:
    base = CHAT if path == TALK else COMPLETION
    body = {key: value for key, value in {**base, **changes}.items() if value is not GONE}
    answer = http.post(path, content=json.dumps(body), headers=JSON)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == (INVALID, param), error
    assert error["message"]
    assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "param"),
    [
        ("GET", "/v1/nothing", {}, 404, None),
        ("GET", "/favicon.ico", {}, 404, None),
        ("GET", TEXT, {}, 405, None),
        ("POST", TEXT + "/", {"json": COMPLETION}, 404, None),
        ("GET", "/nothing", {"headers": {"Host": "["}}, 404, None),
        ("DELETE", TALK, {}, 405, None),
        ("POST", "/health", {"json": {}}, 405, None),
        ("POST", TEXT, {"json": {**COMPLETION, "model": "other"}}, 404, "model"),
        ("POST", TEXT, {"data": {"model": MODEL}}, 415, None),
        ("POST", TEXT, {"content": "{", "headers": JSON}, 400, None),
        ("POST", TEXT, {"content": "[" * 99999, "headers": JSON}, 400, None),
        ("POST", TEXT, {"content": '{"temperature": NaN}', "headers": JSON}, 400, None),
        ("POST", TEXT, {"json": [COMPLETION]}, 400, None),
        ("POST", TEXT, {"content": b"\xff\xfe\x00", "headers": JSON}, 400, None),
        ("POST", TEXT, {"json": {**COMPLETION, "prompt": "x" * (5 << 20)}}, 413, None),
        ("POST", TEXT, {"json": {**COMPLETION, "prompt": "x" * (1 << 20)}}, 400, "prompt"),
    ],
)
def test_what_is_no_request_at_all(
    http: httpx.Client, method: str, path: str, options: dict[str, Any], status: int, param: str | None
) -> None:
    answer = http.request(method, path, **options)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == (INVALID, param)


@pytest.mark.parametrize(
    "changes",
    [
        {"user": "ann", "metadata": {"a": "b"}, "temperature": None, "stop": None, "n": 1},
        {
            "tools": [],
            "tool_choice": "none",
            "response_format": {"type": "text"},
            "store": False,
            "modalities": ["text"],
        },
        {"logit_bias": {}, "top_k": -1, "seed": -5, "stop": ["a", "b"], "service_tier": "auto"},
        {"messages": [{"role": "developer", "content": [{"type": "text", "text": "a"}]}, *CHAT["messages"]]},  # type: ignore[misc]
        {"messages": [{"role": "user", "content": "x", "name": None, "tool_calls": None}]},
        {"stream": True, "stream_options": {"include_usage": False, "include_obfuscation": False}},
    ],
)
def test_what_asks_for_nothing_special_is_accepted(http: httpx.Client, changes: dict[str, Any]) -> None:
    answer = http.post(TALK, json={**CHAT, **changes})
    assert answer.status_code == 200, answer.text


def test_after_all_this_a_token_can_be_made(http: httpx.Client) -> None:
    answer = http.post(TEXT, json=COMPLETION)
    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] == 1
    assert http.get("/health").json()["sequences"] == 0
