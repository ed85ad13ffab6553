"""Rule: `generate` writes the client's own text, says on request who made which token, and fails in one clear line."""

from __future__ import annotations

import io
import json
import re
import signal
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from amusd_mp.cli.painting import Look, Painter, safe
from amusd_mp.cli.sampling import Sampling
from amusd_mp.client.options import Options
from amusd_mp.client.results import Chunk, Token
from amusd_mp.core.messages import Origin

PROMPT = "def fibonacci(n):\n"
SPECULATE = ("--strategy", "alternating", "--lookahead", "5")


def own_text(tools: Any, **options: Any) -> str:
    return tools.ask(lambda client: client.generate(PROMPT, **options)).text


def test_a_pipe_gets_the_text_alone(tools: Any) -> None:
    done = tools.run("generate", PROMPT, "--url", tools.url, "--max-tokens", "48")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == own_text(tools, max_tokens=48) + "\n"


def test_the_address_may_come_from_the_environment(tools: Any) -> None:
    done = tools.run("generate", PROMPT, "--max-tokens", "8", AMUSD_MP_URL=tools.url)
    assert done.stdout == own_text(tools, max_tokens=8) + "\n"


def test_sampling_flags_reach_the_verify_node(tools: Any) -> None:
    flags = ("--temperature", "0.8", "--top-k", "50", "--seed", "7", "--stop", "return", "--logit-bias", "20=-3")
    done = tools.run("generate", PROMPT, "--url", tools.url, "--max-tokens", "32", *flags)
    options = {"temperature": 0.8, "top_k": 50, "seed": 7, "stop": "return", "logit_bias": {20: -3.0}}
    assert done.stdout == own_text(tools, max_tokens=32, **options) + "\n"


def test_flags_are_the_options_of_the_client() -> None:
    assert {each.name for each in fields(Sampling)} == set(Options.__annotations__) - {
        *("messages", "timeout", "show_rejected")
    }


def test_what_no_flag_gives_is_left_to_the_model() -> None:
    assert Sampling().options() == {}
    given = Sampling(temperature=0.0, top_k=0, stop_token_ids="1, 2", logit_bias=["7=-1.5"], stop=["a", "b"])
    assert given.options() == {
        "temperature": 0.0, "top_k": 0, "stop_token_ids": (1, 2), "logit_bias": {7: -1.5}, "stop": ["a", "b"],
    }  # fmt: skip


def test_a_prompt_comes_as_argument_file_standard_input_or_ids(tools: Any, tmp_path: Path) -> None:
    (tmp_path / "prompt").write_text(PROMPT)
    ways = [
        tools.run("generate", "--prompt-file", str(tmp_path / "prompt"), "--url", tools.url, "--max-tokens", "8"),
        tools.run("generate", "--prompt-file", "-", "--url", tools.url, "--max-tokens", "8", stdin=PROMPT),
    ]
    assert {done.stdout for done in ways} == {own_text(tools, max_tokens=8) + "\n"}
    ids = tools.run("generate", "--ids", "5, 6,7", "--url", tools.url, "--max-tokens", "8")
    assert ids.stdout == tools.ask(lambda client: client.generate([5, 6, 7], max_tokens=8)).text + "\n"


def test_json_tells_everything_about_a_response(tools: Any) -> None:
    done = tools.run(
        "generate", PROMPT, "--url", tools.url, "--max-tokens", "40", "--json", "--show-drafts", "--logprobs", "2",
        *SPECULATE,
    )  # fmt: skip
    told = json.loads(done.stdout)
    result = tools.ask(lambda client: client.generate(PROMPT, max_tokens=40))
    assert told["text"] == result.text == "".join(token["text"] for token in told["tokens"])
    assert [token["id"] for token in told["tokens"]] == list(result.token_ids)
    assert (told["finish_reason"], told["prompt_tokens"]) == ("length", result.prompt_tokens)
    assert told["resubmissions"] == 0
    assert told["speculative_decoding"]["num_accepted_draft_tokens"] == sum(
        token["origin"] == "accepted" for token in told["tokens"]
    )
    assert all(len(token["top_logprobs"]) == 2 for token in told["tokens"])


def test_several_responses_have_seeds_in_a_row(tools: Any) -> None:
    flags = ("--url", tools.url, "--max-tokens", "12", "--temperature", "1", "--seed", "7", "--n", "3")
    results = tools.ask(lambda client: client.sample(PROMPT, 3, max_tokens=12, temperature=1.0, seed=7))
    plain = tools.run("generate", PROMPT, *flags)
    assert plain.stdout == "".join(result.text + "\n" for result in results)
    assert plain.stderr.splitlines() == [f"{i} of 3, seed {6 + i}:" for i in (1, 2, 3)]
    told = [json.loads(line) for line in tools.run("generate", PROMPT, *flags, "--json").stdout.splitlines()]
    assert [(each["seed"], each["text"]) for each in told] == [(result.seed, result.text) for result in results]


def test_rejected_tokens_are_told_with_their_text_where_the_draft_was_wrong(tools: Any) -> None:
    def ask(*flags: str) -> list[dict[str, Any]]:
        done = tools.run("generate", PROMPT, "--url", tools.url, "--max-tokens", "40", "--json", *SPECULATE, *flags)
        found: list[dict[str, Any]] = json.loads(done.stdout)["tokens"]
        return found

    rejections = [token for token in ask("--show-drafts") if "rejected" in token]
    assert rejections
    assert all(token["origin"] == "recovered" and token["rejected"][0] != token["id"] for token in rejections)
    assert any(token.get("rejected_text") for token in rejections)
    assert not any("rejected_text" in token for token in ask())


def test_show_drafts_marks_tokens_in_a_pipe(tools: Any) -> None:
    done = tools.run("generate", PROMPT, "--url", tools.url, "--max-tokens", "40", "--show-drafts", *SPECULATE)
    marks = re.findall(r"\[([arbx-]):(.*?)\](?=\[|\n\Z)", done.stdout, re.DOTALL)
    assert "".join(text for letter, text in marks if letter != "x") == own_text(tools, max_tokens=40)
    assert {"a", "r", "x"} <= {letter for letter, _ in marks}
    legend, summary = done.stderr.splitlines()
    assert legend == "legend: [a: accepted], [r: recovered], [b: bonus], [-: alone], [x: rejected]"
    assert re.fullmatch(
        r"40 tokens, [\d.]+ tokens/s, first after \d+ ms, [\d.]+ tokens per speculative step, overlap \d+%", summary
    )


def test_an_interrupt_ends_with_130_and_cancels_the_sequence(tools: Any) -> None:
    with tools.start("generate", PROMPT, "--url", tools.url, "--max-tokens", "1900", "--ignore-eos") as running:
        assert tools.read_line(running.stdout)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=30)
    assert (running.returncode, errors) == (130, "")
    tools.wait_until_idle()


def test_a_timeout_is_an_error_after_what_had_arrived(tools: Any) -> None:
    done = tools.run(
        "generate", PROMPT, "--url", tools.url, "--max-tokens", "1900", "--ignore-eos", "--timeout", "0.3"
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout
    assert "not finished within 0.3 s" in done.stderr
    tools.wait_until_idle()


@pytest.mark.parametrize("way", ["flag", "file", "environment"])
def test_nobody_there_is_one_line_that_says_what_was_tried(tools: Any, nobody: str, tmp_path: Path, way: str) -> None:
    file = tmp_path / "away.toml"
    file.write_text(f'[nodes.v]\nrole = "verify"\nmodel = "bundled:verify"\nlisten = "{nobody}"\n')
    flags = {"flag": ("--url", nobody), "file": ("--config", str(file)), "environment": ()}[way]
    source = {"flag": "--url", "file": str(file), "environment": "AMUSD_MP_URL"}[way]
    extra = {"AMUSD_MP_URL": nobody} if way == "environment" else {}
    done = tools.run("generate", "x", "--connect-timeout", "0.3", *flags, **extra)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert f"tried {nobody}, which comes from {source}" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "give one of PROMPT, --prompt-file and --ids"),
        (("x", "--ids", "1"), "give one of PROMPT, --prompt-file and --ids"),
        (("--ids", "1,two"), "--ids: '1,two' is no list of token ids"),
        (("--prompt-file", "/nowhere"), "--prompt-file: /nowhere cannot be read"),
        (("x", "--logit-bias", "5"), "--logit-bias: '5' is not ID=BIAS"),
        (("x", "--stop-token-ids", "a"), "--stop-token-ids: 'a' is no list of token ids"),
        (("x", "--config", "c.toml"), "give --url or --config, not both"),
        (("x", "--temperature", "-1"), "temperature"),
        (("x", "--max-tokens", "0"), "max_tokens"),
        (("--ids", "4096"), "4096"),
        (("x", "--strategy", "psychic"), "'psychic' is not one of"),
        (("x", "--logprobs", "2"), "--logprobs tells its numbers in JSON: add --json"),
    ],
)
def test_what_the_caller_can_fix_ends_with_2(tools: Any, arguments: tuple[str, ...], complaint: str) -> None:
    done = tools.run("generate", *arguments, "--url", tools.url)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


# ------------------------------------------------------------------------------- marks on a terminal


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


CHUNK = Chunk(
    "a bc",
    (
        Token(1, Origin.ACCEPTED, text="a"),
        Token(2, Origin.RECOVERED, text=" b", rejected=(7, 8), rejected_text=" x\n"),
        Token(3, Origin.ALONE, text="c"),
    ),
)


def test_a_terminal_shows_each_origin_in_colour_and_shape() -> None:
    painter = Painter(Terminal(), {})
    assert painter.look is Look.COLOUR
    assert painter.chunk(CHUNK) == "\x1b[1;32ma\x1b[0m\x1b[9;31m x\\n\x1b[0m\x1b[4;33m b\x1b[0mc"


def test_no_color_leaves_the_shapes() -> None:
    painter = Painter(Terminal(), {"NO_COLOR": "1"})
    assert painter.look is Look.SHAPE
    assert painter.chunk(CHUNK) == "\x1b[1ma\x1b[0m\x1b[9m x\\n\x1b[0m\x1b[4m b\x1b[0mc"
    assert "\x1b[9mrejected\x1b[0m" in painter.legend()


@pytest.mark.parametrize(("stream", "environ"), [(io.StringIO(), {}), (Terminal(), {"TERM": "dumb"})])
def test_elsewhere_there_are_marks(stream: io.StringIO, environ: dict[str, str]) -> None:
    assert Painter(stream, environ).chunk(CHUNK) == "[a:a][x: x\\n][r: b][-:c]"


def test_text_whose_tokens_are_unknown_stays_unmarked() -> None:
    assert Painter(io.StringIO(), {}).chunk(Chunk("ab", (Token(1, Origin.ACCEPTED),))) == "ab"


def test_a_model_cannot_steer_the_terminal() -> None:
    assert safe("a\x1b[2J\x07\n\tb\x9b", Terminal()) == "a\ufffd[2J\ufffd\n\tb\ufffd"
    assert safe("a\x1b[2J", io.StringIO()) == "a\x1b[2J"
