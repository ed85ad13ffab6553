"""A client without the framework: pyzmq and msgpack, to show all that the protocol asks of one.

    python docs/plain_peer.py tcp://127.0.0.1:5601 "The capital of France is"

Any language with ZeroMQ and msgpack can do the same. Message types and fields stand in amusd_mp/core/messages/; a
field that is absent has its default.
"""

# ruff: noqa: T201  # a program prints

import sys
import time
import uuid
from urllib.parse import urlsplit

import msgpack
import zmq

url, prompt = sys.argv[1:3]
me, sequence = uuid.uuid4().hex[:16], uuid.uuid4().hex[:16]  # this run of this client, and its one request
context, number = zmq.Context(), 0

req = context.socket(zmq.REQ)
req.setsockopt(zmq.REQ_RELAXED, 1)  # without these two a REQ is dead for ever once a reply is lost
req.setsockopt(zmq.REQ_CORRELATE, 1)
req.setsockopt(zmq.LINGER, 0)
req.connect(url)


def ask(kind, **body):
    """Send a request until it is answered; every request is idempotent, so asking twice is harmless."""
    global number
    for _ in range(10):
        number += 1
        req.send(msgpack.packb({"v": 1, "t": kind, "n": f"plain-{me[:8]}", "i": me, "q": number, "b": body}))
        if req.poll(2000):
            reply = msgpack.unpackb(req.recv())
            if reply["t"] == "error":
                sys.exit(f"error: {reply['b']['message']}")
            return reply
    sys.exit(f"error: {url} does not answer")


# 1. Introduce yourself. The reply names the node's incarnation, which every later request means, and where it
#    publishes: the host you dialled, another port.
hello = {"role": "client", "protocols": [1, 1]}
welcome = ask("hello", **hello)
verify, lease = welcome["i"], welcome["b"]["lease"]
pub = dict(welcome["b"]["endpoints"])["pub"]
sub = context.socket(zmq.SUB)
sub.setsockopt(zmq.LINGER, 0)
sub.setsockopt_string(zmq.SUBSCRIBE, f"v/{me}/")  # everything meant for this client, and no other's
sub.connect(f"tcp://{urlsplit(url).hostname}:{urlsplit(pub).port}")

# 2. The barrier. A SUB misses what is published before its subscription has arrived, silently. So repeat hello with a
#    nonce, until the nonce itself comes by subscription.
nonce = uuid.uuid4().hex[:16]
while True:
    ask("hello", **hello, nonce=nonce, topic=f"v/{me}/")
    if sub.poll(20) and msgpack.unpackb(sub.recv_multipart()[1])["b"].get("nonce") == nonce:
        break

# 3. Submit. The sequence's id is yours: the same submit sent twice runs once.
submitted = ask("submit", sequence=sequence, verify=verify, client=me, text=prompt, params={"max_tokens": 64})
length, text = submitted["b"]["prompt_length"], ""  # tokens of prompt and output known here, and the output's text

# 4. Read. Each `committed` repeats the last 64 tokens with their text, so a lost one is repaired by the next. What lies
#    further back, and a lost last one, is fetched by `sync`, whose reply has the same fields.
renewed = time.monotonic()
while True:
    window = msgpack.unpackb(sub.recv_multipart()[1])["b"] if sub.poll(1000) else None
    if window is None or window.get("text_start", 0) > len(text):
        window = ask("sync", sequence=sequence, verify=verify, start=length)["b"]
    elif "length" not in window:  # `opened`, or a late barrier
        continue
    new = window.get("text", "")[len(text) - window.get("text_start", 0) :]
    text, length = text + new, max(length, window["start"] + len(window["tokens"]))
    print(new, end="", flush=True)
    if window.get("finish") and length >= window["length"]:
        break
    if time.monotonic() - renewed > lease / 3:  # a client that falls silent loses its sequence
        ask("renew", verify=verify, sequences=[sequence])
        renewed = time.monotonic()
print(f"\n[{window['finish']}, {window['counts'].get('output_tokens', 0)} tokens]", file=sys.stderr)
