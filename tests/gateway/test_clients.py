"""Rule: what people have already works: the openai package, curl, and a framework, whole and streaming."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from amusd_mp.engine.source import BUNDLED

MODEL = "bundled:verify"
END = json.loads((BUNDLED / "verify" / "config.json").read_text("utf-8"))["eos_token_id"]
PROMPT = "def add(a, b):"
MESSAGES = [{"role": "user", "content": "What is two plus two?"}]
DEADLINE = 60.0


@pytest.fixture(scope="module")
def client(server):  # type: ignore[no-untyped-def]
    with OpenAI(base_url=f"{server.http}/v1", api_key="none", timeout=DEADLINE, max_retries=0) as client:
        yield client


def test_models(client: OpenAI) -> None:
    (model,) = client.models.list()
    assert (model.id, model.root, model.max_model_len) == (MODEL, MODEL, 2048)  # type: ignore[attr-defined]
    assert client.models.retrieve(MODEL) == model
    with pytest.raises(NotFoundError, match="'gpt' is not served here"):
        client.models.retrieve("gpt")


def test_a_completion_whole_and_streaming(client: OpenAI) -> None:
    whole = client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=24, temperature=0)
    assert whole.object == "text_completion"
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 24
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + 24
    assert whole.choices[0].finish_reason == "length"
    stream = client.completions.create(
        model=MODEL, prompt=PROMPT, max_tokens=24, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(c.choices[0].text for c in chunks if c.choices) == whole.choices[0].text
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-2:] == [None, "length"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage.model_copy(
        update={"prompt_tokens_details": chunks[-1].usage.prompt_tokens_details}
    )
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_conversation_whole_and_streaming(client: OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=24, temperature=0)  # type: ignore[arg-type]
    message = whole.choices[0].message
    assert message.role == "assistant"
    assert message.content
    stream = client.chat.completions.create(
        model=MODEL,
        messages=MESSAGES,  # type: ignore[arg-type]
        max_completion_tokens=24,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    first, *middle, last, usage = chunks
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
    assert "".join(c.choices[0].delta.content or "" for c in middle) == message.content
    assert last.choices[0].delta.content is None
    assert last.choices[0].finish_reason == "length"
    assert usage.usage is not None
    assert usage.usage.completion_tokens == 24


def test_several_choices_use_the_seeds_from_the_first_one_on(client: OpenAI) -> None:
    ask = {"model": MODEL, "prompt": PROMPT, "max_tokens": 12, "temperature": 1.0}
    three = client.completions.create(**ask, n=3, seed=7)  # type: ignore[call-overload]
    alone = [client.completions.create(**ask, seed=7 + j).choices[0].text for j in range(3)]  # type: ignore[call-overload]
    assert [choice.text for choice in three.choices] == alone
    assert [choice.index for choice in three.choices] == [0, 1, 2]
    assert len(set(alone)) > 1
    streamed = ["", "", ""]
    for chunk in client.completions.create(**ask, n=3, seed=7, stream=True):  # type: ignore[call-overload]
        for choice in chunk.choices:
            streamed[choice.index] += choice.text
    assert streamed == alone


def test_several_prompts(client: OpenAI) -> None:
    ask = {"model": MODEL, "max_tokens": 6, "temperature": 0}
    both = client.completions.create(**ask, prompt=[PROMPT, "Question:"], n=2)  # type: ignore[call-overload]
    one = client.completions.create(**ask, prompt=PROMPT).choices[0].text  # type: ignore[call-overload]
    other = client.completions.create(**ask, prompt="Question:").choices[0].text  # type: ignore[call-overload]
    assert [choice.text for choice in both.choices] == [one, one, other, other]


def test_a_stop_string_ends_the_text_before_it(client: OpenAI) -> None:
    ask = {"model": MODEL, "prompt": PROMPT, "max_tokens": 40, "temperature": 0}
    free = client.completions.create(**ask).choices[0].text  # type: ignore[call-overload]
    stop = free[15:18]
    cut = client.completions.create(**ask, stop=[stop])  # type: ignore[call-overload]
    assert cut.choices[0].text == free[: free.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


def test_penalties_and_bias_and_what_vllm_adds(client: OpenAI) -> None:
    ask = {"model": MODEL, "prompt": PROMPT, "max_tokens": 12, "temperature": 0}
    plain = client.completions.create(**ask).choices[0].text  # type: ignore[call-overload]
    punished = client.completions.create(**ask, frequency_penalty=2.0, presence_penalty=2.0)  # type: ignore[call-overload]
    assert punished.choices[0].text != plain
    tokens = client.completions.create(**ask, logit_bias={"100": 100}, logprobs=0).choices[0].logprobs  # type: ignore[call-overload]
    assert len(tokens.tokens) == 12
    assert len(set(tokens.tokens)) == 1
    first = {**ask, "temperature": 1.0, "seed": 3, "extra_body": {"top_k": 1}}
    assert client.completions.create(**first).choices[0].text == plain  # type: ignore[call-overload]
    ending = {**ask, "logit_bias": {str(END): 100}}
    assert client.completions.create(**ending).choices[0].finish_reason == "stop"  # type: ignore[call-overload]
    endless = client.completions.create(**ending, extra_body={"ignore_eos": True})  # type: ignore[call-overload]
    assert (endless.choices[0].finish_reason, endless.usage.completion_tokens) == ("length", 12)


def test_log_probabilities_of_a_completion(client: OpenAI) -> None:
    ask = {"model": MODEL, "prompt": PROMPT, "max_tokens": 12, "temperature": 0, "logprobs": 3}
    choice = client.completions.create(**ask).choices[0]  # type: ignore[call-overload]
    told = choice.logprobs
    assert len(told.tokens) == len(told.token_logprobs) == len(told.top_logprobs) == len(told.text_offset) == 12
    assert "".join(told.tokens) == choice.text
    assert all(choice.text[at:].startswith(token) for at, token in zip(told.text_offset, told.tokens, strict=True))
    for token, logprob, top in zip(told.tokens, told.token_logprobs, told.top_logprobs, strict=True):
        assert len(top) == 3
        assert top[token] == logprob == max(top.values())  # greedy
    streamed = [c.choices[0].logprobs for c in client.completions.create(**ask, stream=True)]  # type: ignore[call-overload]
    assert [token for each in streamed if each for token in each.tokens] == told.tokens
    assert [at for each in streamed if each for at in each.text_offset] == told.text_offset


def test_log_probabilities_of_a_conversation(client: OpenAI) -> None:
    ask = {"model": MODEL, "messages": MESSAGES, "max_tokens": 8, "temperature": 0, "logprobs": True, "top_logprobs": 2}
    choice = client.chat.completions.create(**ask).choices[0]  # type: ignore[call-overload]
    content = choice.logprobs.content
    assert len(content) == 8
    assert b"".join(bytes(each.bytes) for each in content).decode() == choice.message.content
    assert all(each.top_logprobs[0].token == each.token and len(each.top_logprobs) == 2 for each in content)
    streamed = list(client.chat.completions.create(**ask, stream=True))  # type: ignore[call-overload]
    tokens = [each.token for c in streamed if c.choices[0].logprobs for each in c.choices[0].logprobs.content]
    assert tokens == [each.token for each in content]


def test_errors_are_the_packages_own(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as caught:
        client.completions.create(model=MODEL, prompt=[5] * 3000, max_tokens=4)
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "prompt"
    with pytest.raises(NotFoundError) as missing:
        client.completions.create(model="gpt-5", prompt="x")
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")


# ------------------------------------------------------------------------------- curl


def curl(*arguments: str) -> str:
    path = shutil.which("curl")
    if path is None:
        pytest.skip("curl is not installed")
    done = subprocess.run([path, "-sSN", *arguments], capture_output=True, text=True, timeout=DEADLINE, check=True)
    return done.stdout


def test_curl_reads_both_kinds_of_answer(server) -> None:  # type: ignore[no-untyped-def]
    header = ("-H", "Content-Type: application/json")
    body = {"model": MODEL, "prompt": PROMPT, "max_tokens": 8, "temperature": 0}
    whole = json.loads(curl(f"{server.http}/v1/completions", *header, "-d", json.dumps(body)))
    stream = curl(f"{server.http}/v1/completions", *header, "-d", json.dumps({**body, "stream": True}))
    *events, done, rest = stream.split("\n\n")
    assert "\r" not in stream
    assert (done, rest) == ("data: [DONE]", "")
    pieces = [json.loads(event.removeprefix("data: ")) for event in events]
    assert "".join(piece["choices"][0]["text"] for piece in pieces) == whole["choices"][0]["text"]
    assert set(whole["metrics"]["speculative_decoding"]) >= {"mean_acceptance_length", "num_draft_tokens", "wasted"}
    assert set(pieces[-1]["metrics"]["speculative_decoding"]) == set(whole["metrics"]["speculative_decoding"])
    assert all("metrics" not in piece and "usage" not in piece for piece in pieces[:-1])
    assert all(piece["choices"][0]["logprobs"] is None for piece in pieces)
    chat = {"model": MODEL, "messages": MESSAGES, "max_tokens": 4, "stream": True}
    assert curl(f"{server.http}/v1/chat/completions", *header, "-d", json.dumps(chat)).endswith("data: [DONE]\n\n")
    assert "live" in curl(f"{server.http}/")


# ------------------------------------------------------------------------------- a framework


def test_langchain_chats_and_completes(server) -> None:  # type: ignore[no-untyped-def]
    langchain = pytest.importorskip("langchain_openai")
    common = {"model": MODEL, "base_url": f"{server.http}/v1", "api_key": "none", "temperature": 0, "max_tokens": 12}
    chat = langchain.ChatOpenAI(**common, stream_usage=True)
    answer = chat.invoke("What is two plus two?")
    assert answer.response_metadata["finish_reason"] in ("length", "stop")
    assert answer.usage_metadata["output_tokens"] <= 12
    streamed = list(chat.stream("What is two plus two?"))
    assert "".join(str(chunk.content) for chunk in streamed) == answer.content
    several = chat.bind(stop=["the"]).invoke([("system", "Be brief."), ("human", "What is two plus two?")])
    assert "the" not in several.content
    writer = langchain.OpenAI(**common)
    assert writer.invoke(PROMPT) == "".join(writer.stream(PROMPT))
