"""Rule: `chat` sends the conversation as it was said, for a person and for a pipe, and survives what goes wrong."""

from __future__ import annotations

import io
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from amusd_mp.cli.chat import ask
from amusd_mp.errors import UsageError

FIRST, SECOND = "How many legs do three cats have?", "And four cats?"


def answer(tools: Any, *said: str, system: str | None = None, **options: Any) -> str:
    """The answer to a conversation of alternating user and assistant texts."""
    messages = [{"role": "system", "content": system}] if system else []
    messages += [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(said)]
    text: str = tools.ask(lambda client: client.generate(messages=messages, **options)).text
    return text


def test_a_piped_conversation_remembers_every_turn_verbatim(tools: Any) -> None:
    done = tools.run("chat", "--url", tools.url, "--max-tokens", "24", stdin=f"{FIRST}\n\n{SECOND}\n")
    one = answer(tools, FIRST, max_tokens=24)
    two = answer(tools, FIRST, one, SECOND, max_tokens=24)
    assert (done.returncode, done.stdout) == (0, f"{one}\n{two}\n")


def test_a_pipe_of_other_bytes_than_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9 au lait\n"), encoding="utf-8"))
    with pytest.raises(UsageError, match=r"standard input is not utf-8 text \(byte 3\)"):
        ask()


def test_reset_forgets_all_but_the_system_text(tools: Any) -> None:
    done = tools.run(
        "chat", "--url", tools.url, "--system", "Add up.", "--max-tokens", "12", stdin=f"{FIRST}\n/reset\n{SECOND}\n"
    )  # fmt: skip
    expected = [answer(tools, line, system="Add up.", max_tokens=12) for line in (FIRST, SECOND)]
    assert done.stdout == "".join(f"{text}\n" for text in expected)


def test_commands_help_and_quit(tools: Any) -> None:
    done = tools.run("chat", "--url", tools.url, stdin="/help\n/sing\n/quit\nnever asked\n")
    assert (done.returncode, done.stdout) == (0, "")
    greeting, explained, unknown = done.stderr.splitlines()
    assert greeting.startswith(f"bundled:verify at {tools.url}. /reset")
    assert explained.startswith("/reset")
    assert unknown.startswith("/sing is no command. /reset")


def test_show_drafts_marks_the_answer(tools: Any) -> None:
    done = tools.run("chat", "--url", tools.url, "--max-tokens", "6", "--show-drafts", stdin=f"{FIRST}\n")
    assert done.stdout.count("[") >= 6
    assert done.stderr.splitlines()[-1].startswith("6 tokens, ")


def test_an_error_ends_a_piped_conversation(tools: Any) -> None:
    done = tools.run("chat", "--url", tools.url, "--top-p", "2", stdin=f"{FIRST}\n{SECOND}\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert "top_p" in done.stderr.splitlines()[-1]


def test_nobody_there_is_told_before_anything_is_asked(tools: Any, nobody: str) -> None:
    done = tools.run("chat", "--url", nobody, "--connect-timeout", "0.3", stdin="hello\n")
    assert done.returncode == 1
    assert nobody in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_person_cancels_an_answer_with_ctrl_c_and_leaves_with_ctrl_d(tools: Any, within: Callable[[], bool]) -> None:
    ours, theirs = os.openpty()
    shown = ""

    def read_until(done: Callable[[str], bool]) -> str:
        nonlocal shown
        while not done(shown):
            assert within(), f"the terminal shows only {shown!r}"
            if select.select([ours], [], [], 1)[0]:
                shown += os.read(ours, 4096).decode(errors="replace")
        seen, shown = shown, ""
        return seen

    arguments = tools.command("chat", "--url", tools.url, "--max-tokens", "1900", "--ignore-eos")
    terminal: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    environ = tools.environment(TERM="xterm")
    with subprocess.Popen(arguments, preexec_fn=tools.heed_interrupts, env=environ, **terminal) as talk:
        try:
            read_until(lambda text: text.endswith("> "))
            os.write(ours, f"{FIRST}\n".encode())
            read_until(lambda text: len(text) > len(FIRST) + 40)  # its echo, and some of the answer
            talk.send_signal(signal.SIGINT)
            read_until(lambda text: "(cancelled)" in text and text.endswith("> "))
            tools.wait_until_idle()
            talk.send_signal(signal.SIGINT)
            read_until(lambda text: "(Ctrl-D or /quit leaves)" in text and text.endswith("> "))
            os.write(ours, b"\x04")
            assert talk.wait(30) == 0
        finally:
            talk.kill()
            os.close(ours)
            os.close(theirs)
