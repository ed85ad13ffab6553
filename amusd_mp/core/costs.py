"""What a step of the verify device costs by how much it scores: measured, and filled in where it was not.

The policy asks for every k it might choose, the device answers for the one it chose. So means of what was measured
speak for their neighbours, too.
"""

from __future__ import annotations


class StepCosts:
    """Seconds of a step by (rows, k): a curve for each number of rows; one never seen is taken for the nearest."""

    def __init__(self) -> None:
        self._curves: dict[int, Curve] = {}  # by rows

    def observe(self, rows: int, k: int, seconds: float) -> None:
        """Learn one step. A first reading counts as it is where nothing was known of such steps."""
        self._curves.setdefault(rows, Curve()).observe(k, max(seconds, 1e-6))  # in virtual time it may take none

    def estimate(self, rows: int, k: int) -> float | None:
        """Return the expected seconds, or None before anything was measured."""
        if not self._curves:
            return None
        known = self._curves.get(rows)
        if known is None:
            known = self._curves[min(self._curves, key=lambda r: (abs(r - rows), r))]
        return known.at(k)


class Curve:
    """Seconds by k of steps of so many rows: running means, and a curve through them that is made when asked for.

    A mean of enough readings speaks for itself. Else it is a mean over all, less by half for each token of difference,
    each moved by what one more token was assumed to cost. One reading may be anything.
    """

    SMOOTHING = 0.1
    ENOUGH = 4  # readings that speak for themselves
    GROWTH = 1.01  # assumed for one more token per row where it was not measured: what a block costs on a CPU
    OUTLIER = 1.5  # times what was expected: no reading counts for more

    def __init__(self) -> None:
        self._means: list[float] = [0.0]
        self._readings: list[int] = [0]
        self._curve: list[float] = []

    def observe(self, k: int, seconds: float) -> None:
        """Learn one step."""
        missing = k + 1 - len(self._means)
        self._means += [0.0] * missing
        self._readings += [0] * missing
        readings = self._readings[k]
        if readings or (k and any(self._readings[1:])):
            seconds = min(seconds, self.OUTLIER * (self._means[k] if readings else self.at(k)))
        readings += 1
        self._means[k] += max(self.SMOOTHING, 1 / readings) * (seconds - self._means[k])
        self._readings[k] = readings
        self._curve = []

    def at(self, k: int) -> float:
        """Return the expected seconds. Something was measured."""
        self._curve = self._curve or self._fit()
        beyond = k + 1 - len(self._curve)
        return self._curve[k] if beyond <= 0 else self._curve[-1] * self.GROWTH**beyond

    def _fit(self) -> list[float]:
        least = next((k for k, readings in enumerate(self._readings) if k and readings), None)
        if least is None:
            return self._means[:1]
        near = self._near()
        first = self._means[0] if self._readings[0] else near[least] / self.GROWTH**least
        curve = [first + k / least * (near[least] - first) for k in range(least)]
        for k in range(least, len(near)):
            curve.append(self._means[k] if self._readings[k] >= self.ENOUGH else near[k])
        return curve

    def _near(self) -> list[float]:
        """Return, for each k but 0, the mean of what similar steps took, in one pass upwards and one down."""
        own = [min(readings, 1 / self.SMOOTHING) for readings in self._readings]
        seconds, weights = [0.0] * len(own), [0.0] * len(own)
        passed = weight = 0.0
        for k in range(1, len(own)):
            passed, weight = passed * self.GROWTH / 2 + own[k] * self._means[k], weight / 2 + own[k]
            seconds[k], weights[k] = passed, weight
        passed = weight = 0.0
        for k in range(len(own) - 1, 0, -1):
            seconds[k], weights[k] = seconds[k] + passed, weights[k] + weight
            passed, weight = (passed + own[k] * self._means[k]) / self.GROWTH / 2, (weight + own[k]) / 2
        return [total / weight if weight else 0.0 for total, weight in zip(seconds, weights, strict=True)]
