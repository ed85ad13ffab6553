"""What a draft's confidence is worth: how often tokens of which it was so sure were accepted.

A draft tells with every token the probability that it gives it itself. Those are no chances of acceptance yet: small
models are surer than they are right, or the other way round. So the verify node counts, for each draft and over all
its sequences, and believes what it counted; greedy and sampled requests apart, for the same confidence is worth less
where chance decides (docs/sampling.md). A draft counts, too, to know when a lead is long enough. One that tells nothing
is judged by its running acceptance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

PRIOR: Final = 0.7
"""Acceptance to expect of an unknown draft: the bundled pair's greedy agreement, and near what 1B/8B pairs reach."""

PRIOR_SECOND: Final = 0.35
"""Chance to expect of a token beside the chain where the chain's is wrong, of those with the greatest odds."""

BINS: Final = 10
"""Equal parts of 0 to 100 %: enough to tell a guess from a certainty, few enough to fill within a response."""

WEIGHT: Final = 4
"""Judged tokens that the first expectation of a bin counts for."""

LEAST_WORTH: Final = 0.01
"""Chance of being accepted below which a guess is of no use: not to a step, and so not to a lead either."""

SMOOTHING: Final = 0.02
"""Least share of one judgement in its bin: about the last fifty count."""


class Calibration:
    """Chance of acceptance by confidence, learned from what was accepted."""

    def __init__(self, prior: float = PRIOR) -> None:
        self._chance = [prior] * BINS
        self._judged = [0] * BINS

    def __repr__(self) -> str:
        return f"<Calibration {' '.join(f'{chance:.2f}' for chance in self._chance)}>"

    def chance(self, confidence: int) -> float:
        """Return the chance that a token behind accepted ones is accepted; `confidence` in percent."""
        return self._chance[_bin(confidence)]

    def judge(self, confidence: int, accepted: bool) -> None:
        """Learn what became of one verified token."""
        at = _bin(confidence)
        self._judged[at] += 1
        rate = max(SMOOTHING, 1 / (WEIGHT + self._judged[at]))
        self._chance[at] += rate * (accepted - self._chance[at])


class Record:
    """What has become of one draft's guesses, over all its sequences of a kind.

    chain:   of its first choices, by its confidence in each
    beside:  of siblings of a wrong one, by its odds of each
    rescued: how often one of those was right
    """

    def __init__(self) -> None:
        self.chain = Calibration()
        self.beside = Calibration(PRIOR_SECOND)
        self.rescued = 0.0

    def wrong(self, odds: Sequence[tuple[int, bool]]) -> None:
        """Learn what stood beside a wrong token: with what odds, and whether it was right."""
        for each, right in odds:
            self.beside.judge(each, right)
        self.rescued += SMOOTHING * (any(right for _, right in odds) - self.rescued)


def odds(beside: int, chosen: int) -> int:
    """Return a draft's share for a token in percent of what it left to others than the one it chose."""
    return min(100, 100 * beside // max(1, 100 - chosen))


def _bin(confidence: int) -> int:
    return min(BINS - 1, confidence * BINS // 100)
