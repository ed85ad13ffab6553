"""What the gateway has done, counted: for Prometheus, for the log, for the live page.

Counters are sums over the responses that ended, of the very numbers their `metrics` objects carry; names end as vLLM's
do. Nodes are described by the verify node's own status.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate

from amusd_mp.client.results import GenerationResult
from amusd_mp.core.messages import StatusReport
from amusd_mp.gateway.exposition import Family, Histogram, Sample
from amusd_mp.gateway.waiting import WaitingLine

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class Metrics:
    """Everything counted since the gateway began."""

    def __init__(self) -> None:
        self.running = 0
        self.output_tokens = 0  # as they arrive, whether or not their response will end well
        self.sums: Counter[str] = Counter()
        self.accepted_at: Counter[int] = Counter()
        self.ended: Counter[str] = Counter()
        self.first_token = Histogram(SECONDS)
        self.whole = Histogram(SECONDS)
        self.between = Histogram(SHORT)

    def request(self) -> Account:
        """Return the account of a request that begins now."""
        self.running += 1
        return Account(self)

    def families(self, line: WaitingLine, status: StatusReport | None) -> Iterator[Family]:
        """Yield everything there is to tell; `status` None says that the verify node does not answer."""
        yield Family("num_requests_running", "gauge", "Choices being written.", [Sample(line.running)])
        yield Family("num_requests_waiting", "gauge", "Choices waiting for a place.", [Sample(line.waiting)])
        yield Family(
            "request_success_total",
            "counter",
            "Choices that ended well.",
            [Sample(self.ended[reason], (("finished_reason", reason),)) for reason in ("stop", "length")],
        )
        yield Family(
            "request_failure_total",
            "counter",
            "Requests that did not.",
            [Sample(self.ended[reason], (("reason", reason),)) for reason in ("cancelled", "failed")],
        )
        for name, text in SUMS.items():
            yield Family(f"{name}_total", "counter", text, [Sample(self.sums[name])])
        yield Family(
            "spec_decode_num_accepted_tokens_per_pos_total",
            "counter",
            "Speculative steps that accepted the draft token at this position of their proposal.",
            [Sample(n, (("position", str(at)),)) for at, n in sorted(self.accepted_at.items())],
        )
        yield self.first_token.family("time_to_first_token_seconds", "From asking to the first token.")
        yield self.between.family("inter_token_latency_seconds", "Per token after the first.")
        yield self.whole.family("e2e_request_latency_seconds", "From asking to the end.")
        yield from nodes(status)

    def count(self, result: GenerationResult) -> None:
        """Add a response that ended well."""
        counts, tokens = result.stats, len(result.tokens)
        self.ended[result.finish_reason.value] += 1
        self.sums.update(
            prompt_tokens=result.prompt_tokens,
            generation_tokens=tokens,
            spec_decode_num_drafts=counts.steps,
            spec_decode_num_draft_tokens=counts.proposed,
            spec_decode_num_accepted_tokens=counts.accepted,
            spec_decode_num_drafted_tokens=counts.drafted,
            spec_decode_num_wasted_tokens=counts.drafted - counts.proposed,
            spec_decode_num_rollbacks=counts.rollbacks,
            degraded_responses=counts.degraded,
        )
        for position, steps in enumerate(per_position(counts.histogram)):
            self.accepted_at[position] += steps
        self.first_token.add(result.time_to_first_token)
        self.whole.add(result.seconds)
        if tokens > 1:
            self.between.add((result.seconds - result.time_to_first_token) / (tokens - 1), tokens - 1)


SUMS = {
    "prompt_tokens": "Tokens of prompts.",
    "generation_tokens": "Tokens written.",
    "spec_decode_num_drafts": "Speculative verify steps.",
    "spec_decode_num_draft_tokens": "Positions for which there was a verified guess.",
    "spec_decode_num_accepted_tokens": "Draft tokens that were accepted.",
    "spec_decode_num_drafted_tokens": "Draft tokens that were made.",
    "spec_decode_num_wasted_tokens": "Draft tokens beyond one for each such position.",
    "spec_decode_num_rollbacks": "Times a draft took tokens back.",
    "degraded_responses": "Responses during which no draft was joined for some time.",
}


class Account:
    """One request's part in the metrics. It ends once, however often that is said."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._over = False

    def tokens(self, count: int) -> None:
        """Count tokens that arrived."""
        self._metrics.output_tokens += count

    def choice(self, result: GenerationResult) -> None:
        """Count one of its choices, which ended well."""
        self._metrics.count(result)

    def end(self, failure: str = "") -> None:
        """Close the account; `failure` says how it failed ("cancelled", "failed"), "" that it did not."""
        if self._over:
            return
        self._over = True
        self._metrics.running -= 1
        if failure:
            self._metrics.ended[failure] += 1


def per_position(histogram: Sequence[int]) -> list[int]:
    """Return how many steps accepted each position, from how many accepted exactly so many."""
    return list(accumulate(reversed(histogram[1:])))[::-1]


def nodes(status: StatusReport | None) -> Iterator[Family]:
    """Yield what the verify node says of itself and its drafts."""
    yield Family("up", "gauge", "1 if the verify node answers.", [Sample(int(status is not None))])
    if status is None:
        return
    known = [((("node", status.node), ("role", "verify"), ("state", status.state.value)))]
    known += [(("node", draft.node), ("role", "draft"), ("state", "ready")) for draft in status.drafts]
    yield Family("node_state", "gauge", "1 for the state a node is in.", [Sample(1, labels) for labels in known])
    yield Family("degraded", "gauge", "1 while no draft is joined.", [Sample(int(status.degraded))])
    yield Family("sequences", "gauge", "Sequences at the verify node.", [Sample(status.sequences)])
    yield Family("max_sequences", "gauge", "Sequences it can hold.", [Sample(status.max_sequences)])
    yield Family("verify_steps_total", "counter", "Steps of the verify device.", [Sample(status.steps)])
    yield Family("verify_busy_seconds_total", "counter", "Time the verify device computed.", [Sample(status.busy)])
    rates = [Sample(d.acceptance, (("node", d.node),)) for d in status.drafts if d.acceptance is not None]
    yield Family("draft_acceptance_rate", "gauge", "Running acceptance of a draft on live sequences.", rates)
