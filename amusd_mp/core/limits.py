"""The limits and periods that both ends of the protocol must know. Sizes in bytes, times in seconds."""

from __future__ import annotations

from typing import Final

PROTOCOL: Final = 1
"""Protocol major version; a peer whose range excludes it is refused in `hello`."""

TOPIC_BYTES: Final = 120
PUBLICATION_BYTES: Final = 64 * 1024
REQUEST_BYTES: Final = 512 * 1024

WINDOW_TOKENS: Final = 64
"""Committed tokens a `committed` message repeats: how many lost commits the next one repairs by itself."""

PAGE_TOKENS: Final = 8192
"""Tokens in one `sync` page (five bytes each at most, so far below REQUEST_BYTES)."""

PAGE_LOGPROBS: Final = 512
"""Tokens in one `sync` page with log probabilities: up to 21 of them each, about 300 bytes a token."""

PAGE_CHARACTERS: Final = 65536
"""Characters of text in one `sync` page or answer, of at most four bytes each."""

PROMPT_TOKENS: Final = 65536
"""Ids that `tokenize` answers with at most, of at most five bytes each."""

DIGEST_PAGE: Final = 256
"""Sequences in one beat."""

LOOKAHEAD: Final = 16
"""Default bound on a draft's unverified tokens; AMUSD's own logs rarely use more than this in one verify step."""

LOOKAHEAD_MAX: Final = 256

WINDOW_TREE: Final = 1024
"""Guesses in one draft's window: a chain as long as any lookahead, or a tree four times as large."""

BEAT: Final = 0.25
"""Period of beats. A lost window is republished at this rate, so it bounds what one lost message costs."""

LIVENESS: Final = 2.0
"""Silence after which a peer counts as gone: eight beats, so that a long garbage collection is forgiven."""

LEASE: Final = 10.0
"""A sequence lives this long without a renewal from its client."""

WATCH: Final = 3.0
"""Steps are told for this long after somebody asked to see them: a watcher that vanished costs no longer."""

RETAIN: Final = 60.0
"""Finished sequences stay readable, and cancelled unknown ids stay refused, for this long."""

RETRY_WITHIN: Final = 30.0
"""No request is retried after this; below RETAIN, so a late retry of a cancelled submit meets its tombstone."""

REQUEST_TIMEOUT: Final = 5.0
"""Default deadline of one control request."""

STEP_LIMIT: Final = 60.0
"""A device step older than this is a hung device."""

IDENTIFIER: Final = 40
"""Characters of a sequence, client or draft id; two of them and a prefix fit in a topic."""

PARAMETER_IDS: Final = 8192
"""Ids in one parameter of a request. They come with every page of its sequence, which must fit in a reply."""

STOP_STRINGS: Final = 16

STOP_CHARACTERS: Final = 1024
"""Characters of one stop string. So much text may be held back, and comes in one publication when it was none."""

NAME_CHARACTERS: Final = 1024
"""Characters of a model's name, device and the like: a path fits."""

EVENTS: Final = 1 << 31
"""Bound of what is counted elsewhere and added up here, so that no sum outgrows an integer of the wire."""

AGES: Final = 1e10
"""Seconds, three centuries: bound of every time that a peer tells, so that no sum or quotient becomes infinite."""

DIGEST_PAGES: Final = 256

KEPT_SEQUENCES: Final = 4096
"""Finished sequences, and tombstones, that a verify node keeps at most: the oldest go before their time."""

PEERS: Final = 1024
"""Diallers that a verify node knows at once."""

DRAFTS: Final = 16
"""Drafts among them: for each sequence, every plan looks at the windows of all."""

LOGPROBS: Final = 20
