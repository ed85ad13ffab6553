"""Callers of a gateway who mean it no good: what they send is drawn from a seed, what comes back is judged here.

Bodies are real ones with values of the wrong type, nested, huge, not finite, doubled or left out; heads with wrong
lengths, types, paths, methods and hosts; and bytes that are no HTTP. What would be answered by a long text is left
before it is. An answer is 2xx, or 4xx in OpenAI's shape; only bytes that are no whole request may get none.
"""

from __future__ import annotations

import asyncio
import copy
import json
import random
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

DEADLINE = 30.0
AT_ONCE = 4
LONGEST = 1 << 16
"""Bytes of a refusal; the values that it repeats must be cut short."""

MODEL = "bundled:verify"
_ASKED = {"model": MODEL, "max_tokens": 2, "temperature": 0.5, "seed": 3}
_TALK = [{"role": "system", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "x"}]}]
BODIES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/v1/completions", {**_ASKED, "prompt": "def f(", "stop": ["\n"], "logit_bias": {"5": 1.0}, "top_k": 5}),
    ("/v1/completions", {**_ASKED, "prompt": ["a", "b"], "n": 2, "logprobs": 1, "user": "ann"}),
    ("/v1/completions", {**_ASKED, "prompt": [5, 6], "stream": True, "stream_options": {"include_usage": True}}),
    ("/v1/chat/completions", {**_ASKED, "messages": _TALK, "logprobs": True, "top_logprobs": 2, "min_p": 0.1}),
    ("/v1/chat/completions", {**_ASKED, "messages": _TALK, "stream": True, "strategy": "amusd", "lookahead": 3}),
    ("/tokenize", {"model": MODEL, "prompt": "hello", "return_token_strs": True}),
    ("/tokenize", {"messages": _TALK}),
    ("/detokenize", {"model": MODEL, "tokens": [5, 6, 7]}),
    ("/live/generate", {"prompt": "x", "max_tokens": 2, "seed": 1, "chat": False}),
)
FURTHER = ("tools", "best_of", "echo", "presence_penalty", "min_tokens", "stop_token_ids", "response_format", "\ud800")
PATHS = (
    *("/", "/health", "/metrics", "/version", "/v1/models", "/v1/models/", f"/v1/models/{MODEL}", "/v1/models/%FF%00"),
    *(
        "/v1/completions/",
        "/v1/../v1/models",
        "//",
        "/%2e%2e/etc/passwd",
        "/nothing",
        "*",
        "/live/steps/",
        "http://a/b",
    ),
    *("/?" + "a=b&" * 2000, "/health?x=%00", "/" + "x" * 5000, "/v1/models/\u00e9"),
)
METHODS = ("GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW", "get", "x" * 300)
HEADS = (
    *("Host: [", "Host: ]:x", "Host: \xff", "Host:", "Host: a\r\nHost: b", "Host: a:99999999"),
    *("Upgrade: websocket\r\nConnection: upgrade", "Expect: 100-continue", "Expect: nothing", "Cookie: " + "x" * 9000),
    *("Authorization: Bearer \xff", "X: " + "y" * 70000, "A B: c", ": c", "Content-Encoding: gzip"),
)
TYPES = (
    "",
    "text/plain",
    "application/json; charset=utf-16",
    "application/x-www-form-urlencoded",
    "\xff",
    ";;;",
    "a" * 999,
)
HUGE = "HUGE"  # stands for a number of 5,000 digits, ENDLESS for one that no float holds
ENDLESS = "ENDLESS"
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, 2, -1, 1 << 31, 1 << 63, 1 << 64, 10**30, -(10**30), 0.0, -0.0, 1.5, 1e308, 5e-324),
    *(float("nan"), float("inf"), HUGE, ENDLESS, "", "x", "\ud800", "\x00", "\u0663", "\u00e9" * 3000, "5", MODEL),
    *([], [[]], [None], ["x"] * 3000, [5] * 3000, [5, "x"], [10**30], {}, {"": 1}, {"\ud800": 1}, {"a": {"b": []}}),
    *({"x" * 9000: 1}, {"\u0663": 1}, {str(n): 101 for n in range(3000)}),
)


class Manner(Enum):
    """What a caller does once it has sent everything."""

    WAIT = "wait for the whole answer"
    END = "say that nothing follows, and take what comes"
    LEAVE = "hang up"


@dataclass(frozen=True, slots=True)
class Call:
    """The bytes of one connection."""

    sent: bytes
    manner: Manner
    bodiless: bool = False


class Rabble:
    """Draws calls, sends them to the gateway at `url`, and keeps what is `wrong`; `seen` counts answers by status."""

    def __init__(self, url: str, seed: int) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 0
        self._dice = random.Random(f"rabble {seed}")
        self.seen: dict[str, int] = {}
        self.wrong: list[str] = []

    async def send(self, count: int) -> None:
        """Send so many calls, a few at once."""
        calls = iter([self.draw() for _ in range(count)])

        async def one_after_the_other() -> None:
            for call in calls:
                await self._send(call)

        async with asyncio.TaskGroup() as tasks:
            for number in range(AT_ONCE):
                tasks.create_task(one_after_the_other(), name=f"rabble {number}")

    # ------------------------------------------------------------------------------------------ what is sent

    def draw(self) -> Call:
        """Return the next call."""
        make = self._dice.choices((self._body, self._text, self._head, self._noise), (0.6, 0.15, 0.15, 0.1))[0]
        return make()

    def _body(self) -> Call:
        """A body that is JSON, or nearly, and not what is asked for."""
        path, body = self._dice.choice(BODIES)
        body = copy.deepcopy(body)
        for _ in range(self._dice.randint(1, 3)):
            self._spoil(body)
        text = _written(body)
        if self._dice.random() < 0.1:  # a key twice: the last one counts
            name = self._dice.choice(list(BODIES[0][1]))
            text = text[:-1] + f", {json.dumps(name)}: {_written(self._dice.choice(ODD))}}}"
        return self._post(path, text.encode())

    def _spoil(self, body: dict[str, Any]) -> None:
        dice = self._dice
        where: Any = body
        while (inner := [each for each in _values(where) if each]) and dice.random() < 0.4:
            where = dice.choice(inner)
        keys: list[Any] = list(where) if isinstance(where, dict) else list(range(len(where)))
        what = dice.random()
        if not keys or (what < 0.15 and isinstance(where, dict)):
            name = dice.choice(FURTHER)
            if isinstance(where, dict):
                where[name] = dice.choice(ODD)
        elif what < 0.3:
            del where[dice.choice(keys)]
        elif what < 0.35:
            key = dice.choice(keys)
            for _ in range(dice.choice((3, 100, 300))):
                where[key] = dice.choice(([where[key]], {"a": where[key]}))
        else:
            where[dice.choice(keys)] = copy.deepcopy(dice.choice(ODD))

    def _text(self) -> Call:
        """A body whose letters are no longer JSON, or other JSON."""
        dice = self._dice
        path, body = dice.choice(BODIES)
        text = bytearray(_written(body).encode())
        match dice.randrange(7):
            case 0:
                del text[dice.randrange(len(text)) :]
            case 1:
                for _ in range(dice.randint(1, 5)):
                    text[dice.randrange(len(text))] ^= 1 << dice.randrange(8)
            case 2:
                text = bytearray(dice.choice((b"[", b'{"a":', b'"')) * dice.choice((1, 999, 99_999)))
            case 3:
                text[:0] = dice.choice((b"\xef\xbb\xbf", b"\x00", b"\xff\xfe", b"NaN", b"\n\n"))
            case 4:
                text += dice.choice((b"{}", b",", b"\x00", b" " * 5_000, b"x" * ((4 << 20) + 1)))
            case 5:
                text = bytearray(_written({**body, dice.choice(list(body)): "x" * 600_000}).encode())
            case _:
                text = bytearray(dice.choice((b"", b"null", b"1", b"1e999", b"-", b"[]", b"NaN", b'"\\ud800"')))
        return self._post(path, bytes(text))

    def _post(self, path: str, body: bytes) -> Call:
        head = f"POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\n"
        manner = Manner.LEAVE if _lasting(path, body) else Manner.WAIT
        return Call(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body, manner)

    def _head(self) -> Call:
        """A request whose head is not what it should be."""
        dice = self._dice
        path, given = dice.choice(BODIES)
        body = _written(given).encode()
        json_type = "Content-Type: application/json\r\n"
        head = f"POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        length = f"Content-Length: {len(body)}\r\n"
        manner = Manner.END  # these may be no request, or not a whole one
        match dice.randrange(8):
            case 0:
                method, path = dice.choice(METHODS), dice.choice(PATHS)
                head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                return Call(f"{head}\r\n".encode("latin-1", "replace"), Manner.END, method == "HEAD")
            case 1:
                manner, head = Manner.WAIT, f"{head}Content-Type: {dice.choice(TYPES)}\r\n{length}"
            case 2:
                wrong = dice.choice((0, 1, len(body) - 1, len(body) + 1, 1 << 40, -1, "x", "9" * 50, "1, 2"))
                manner = dice.choice((Manner.END, Manner.LEAVE))
                head = f"{head}{json_type}Content-Length: {wrong}\r\n"
            case 3:
                head = f"{head}{json_type}{length}Content-Length: 5\r\n"
            case 4:
                kind = dice.choice((json_type, "Content-Type: text/plain\r\n"))
                head = f"{head}{kind}Transfer-Encoding: {dice.choice(('chunked', 'gzip', 'chunked, chunked'))}\r\n"
                body = dice.choice(
                    (b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body), b"zz\r\n", b"5\r\nabc", b"1\r\n{\r\nz")
                )
            case 5:
                head = head.replace("Host: a", dice.choice(HEADS)) + json_type + length
            case 6:
                head = head.replace("HTTP/1.1", dice.choice(("HTTP/1.0", "HTTP/9.9", "HTTP/2", "")))
                head += json_type + length
            case _:
                head = f"{head}{json_type}{dice.choice(HEADS)}\r\n{length}"
        return Call(f"{head}\r\n".encode("latin-1") + body, manner)

    def _noise(self) -> Call:
        """Bytes that are no HTTP, or a request that was damaged on its way."""
        dice = self._dice
        if dice.random() < 0.3:
            return Call(dice.randbytes(dice.choice((1, 20, 3_000, 100_000))), Manner.END)
        sent = bytearray(self._post(*_real(dice)).sent)
        for _ in range(dice.randint(1, 8)):
            sent[dice.randrange(min(len(sent), 140))] ^= 1 << dice.randrange(8)
        return Call(bytes(sent[: dice.choice((len(sent), dice.randrange(len(sent))))]), Manner.END)

    # ------------------------------------------------------------------------------------------ what comes back

    async def _send(self, call: Call) -> None:
        found, answer = None, b""
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            writer.write(call.sent)
            if call.manner is Manner.LEAVE:
                await writer.drain()
                self._count("left")
                return
            if call.manner is Manner.END:
                writer.write_eof()
            async with asyncio.timeout(DEADLINE):
                answer = await reader.read(-1)
            while answer.startswith(b"HTTP/1.1 100"):
                answer = answer.partition(b"\r\n\r\n")[2]
            found = judged(answer, call)
            self._count(answer[9:12].decode("latin-1") or "none")
        except TimeoutError:
            found = "no answer in time"
        except ConnectionError:  # refused before all of it was sent
            self._count("cut off")
        finally:
            writer.close()
        if found is not None:
            self.wrong.append(f"{found}: {call.manner.name} {call.sent[:400]!r}, answered by {answer[:400]!r}")

    def _count(self, status: str) -> None:
        self.seen[status] = self.seen.get(status, 0) + 1


def judged(answer: bytes, call: Call) -> str | None:
    """Return what is wrong with an answer, None if nothing is."""
    if not answer:
        return None if call.manner is Manner.END else "no answer"
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b" ")[1]
    if status.startswith(b"2"):
        return "an error within a stream" if b'"server_error"' in body else None
    if not status.startswith(b"4"):
        return f"status {status.decode()}"
    if len(body) > LONGEST:
        return f"a refusal of {len(body)} bytes"
    try:
        error = json.loads(body)["error"]
        right = set(error) == {"message", "type", "param", "code"} and error["message"] and error["type"]
    except (ValueError, KeyError, TypeError):
        right = False
    return None if right else "not OpenAI's shape"


def _real(dice: random.Random) -> tuple[str, bytes]:
    path, body = dice.choice(BODIES)
    return path, _written(body).encode()


def _values(where: Any) -> list[Any]:
    inner = where.values() if isinstance(where, dict) else where
    return [each for each in inner if isinstance(each, dict | list)]


def _written(value: Any) -> str:
    return json.dumps(value).replace(f'"{HUGE}"', "9" * 5_000).replace(f'"{ENDLESS}"', "1e999")


def _lasting(path: str, body: bytes) -> bool:
    """Return whether a body may ask for a long text, which is the verify node's own and no fault of anybody's."""
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return False
    if not isinstance(asked, dict) or path.endswith("tokenize"):
        return False
    most = [asked[name] for name in ("max_tokens", "max_completion_tokens") if asked.get(name) is not None]
    many = [asked[name] for name in ("n", "best_of") if asked.get(name) is not None]
    some = [len(asked["prompt"]) if isinstance(asked.get("prompt"), list) else 1]
    return (not most and path != "/v1/completions") or any(
        isinstance(each, int) and each > 8 for each in (*most, *many, *some)
    )
