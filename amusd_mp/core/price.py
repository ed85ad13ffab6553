"""What the policy learns of a deployment beside the costs of steps: what a second is worth, and how well waits pay."""

from __future__ import annotations


class Price:
    """The rate achieved so far, in tokens per second by number of rows: what a second of the device is worth."""

    SMOOTHING = 1 / 32

    def __init__(self) -> None:
        self._rate: dict[int, tuple[float, float]] = {}  # rows -> running means of (tokens, seconds) of one step

    def observe(self, rows: int, tokens: int, seconds: float) -> None:
        """Learn one step: the tokens it committed and the time since the step before it ended."""
        known = self._rate.get(rows)
        if known is None:
            self._rate[rows] = (float(tokens), max(seconds, 1e-6))
        else:
            self._rate[rows] = (
                known[0] + self.SMOOTHING * (tokens - known[0]),
                known[1] + self.SMOOTHING * (max(seconds, 1e-6) - known[1]),
            )

    def of(self, rows: int, alone: float) -> float:
        """Return tokens per second of `rows` rows, never below `alone`, what the verify model does by itself."""
        tokens, seconds = self._rate.get(rows, (0.0, 1.0))
        return max(alone, tokens / seconds)


class Trust:
    """How often what was waited for came: a wait that has not paid lately must promise more to be tried again."""

    SMOOTHING = 1 / 8
    RECOVERY = 1 / 128

    def __init__(self) -> None:
        self.share = 1.0

    def learn(self, came: bool) -> None:
        """Learn from a wait that is over."""
        self.share += self.SMOOTHING * (came - self.share)

    def recover(self) -> None:
        """Regain a little trust with every step that did not wait, so that waiting is tried again."""
        self.share += self.RECOVERY * (1.0 - self.share)
