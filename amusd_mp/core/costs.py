"""What a step of a device costs by how much it scores: measured, and filled in where it was not.

The policy asks for every number of proposals it might choose, the device answers for the one it chose. So means of
what was measured speak for their neighbours, too, and a line through all of them, seconds by tokens computed, for what
is far from any. A draft asks the same of its own device (`preparing`), for tokens beyond the first of each block.
"""

from __future__ import annotations

from typing import Final

BEYOND: Final = 24
"""Proposals per row for which a curve is made beyond what is asked for: more will be, before the next reading."""


class StepCosts:
    """Seconds of a step by rows and proposals over all rows: a curve for each number of rows, one line through all."""

    def __init__(self) -> None:
        self._line = CostLine()
        self._curves: dict[int, Curve] = {}  # by rows

    def observe(self, rows: int, proposals: int, seconds: float) -> None:
        """Learn one step. A first reading counts as it is where nothing was known of such steps."""
        curve = self._curves.get(rows)
        if curve is None:
            curve = self._curves[rows] = Curve(rows, self._line)
        seconds = max(seconds, 1e-6)  # in virtual time it may take none
        k = max(1, round(proposals / rows)) if proposals else 0  # a curve has a point for each whole number per row
        curve.observe(k, seconds * self._line.growth(rows + proposals, rows + rows * k))

    def estimate(self, rows: int, proposals: int) -> float | None:
        """Return the expected seconds, or None before anything was measured."""
        return self.upto(rows, proposals)[proposals] if self._curves else None

    def upto(self, rows: int, most: int) -> list[float]:
        """Return the expected seconds with 0, 1, ... `most` proposals. Something was measured."""
        known = self._curves.get(rows)
        if known is not None:
            return known.upto(most)
        if self._line.known:
            base, slope = self._line.fit()
            return [base + slope * tokens for tokens in range(rows, rows + most + 1)]
        other = next(iter(self._curves.values())).upto(most // rows)
        return [other[proposals // rows] for proposals in range(most + 1)]

    def due(self, rows: int, k: int) -> bool:
        """Return whether a step of so many rows with k proposals for each should be measured, others having been.

        What was estimated too dear would never be tried, so never learned: neither a step without proposals, which
        speculation must beat, nor one with more of them than ever before. And one reading may be anything.
        """
        known = self._curves.get(rows)
        return known is not None and known.due(k)


class CostLine:
    """Seconds by tokens computed, over all rows: least squares through the means of all curves.

    One token alone is left out: a matrix times a vector is another kernel than a matrix times a matrix. Until enough
    differs among the means to tell, a token costs what it was assumed to.
    """

    GROWTH = 0.01  # assumed cost of one more token, of what a step costs without any: what a block costs on a CPU
    DOUBT = 64.0  # weight of that assumption: a reading each at 2 and 13 tokens has as much
    MOST = 10.0  # readings of one mean that count

    def __init__(self) -> None:
        self._weight = self._x = self._y = self._xx = self._xy = 0.0
        self._fit: tuple[float, float] | None = None

    @property
    def known(self) -> bool:
        """True once anything was measured that it goes through."""
        return self._weight > 0

    def move(self, tokens: int, readings: tuple[int, int], means: tuple[float, float]) -> None:
        """Take the mean of such steps from what it was to what it is now, and from so many readings to so many."""
        if tokens < 2:
            return
        for sign, count, mean in zip((-1, 1), readings, means, strict=True):
            weight = sign * min(count, self.MOST)
            self._weight += weight
            self._x += weight * tokens
            self._y += weight * mean
            self._xx += weight * tokens * tokens
            self._xy += weight * tokens * mean
        self._fit = None

    def fit(self) -> tuple[float, float]:
        """Return seconds at no token, and for each token: as a share of the former where nothing was measured."""
        if not self.known:
            return 1.0, self.GROWTH
        if self._fit is None:
            x, y = self._x / self._weight, self._y / self._weight
            assumed = self.GROWTH * y / (1 + self.GROWTH * x)
            spread, slant = self._xx - self._weight * x * x, self._xy - self._weight * x * y
            slope = max(0.0, (slant + self.DOUBT * assumed) / (max(0.0, spread) + self.DOUBT))
            slope = min(slope, y / x)  # nothing costs less than nothing
            self._fit = y - slope * x, slope
        return self._fit

    def growth(self, start: int, end: int) -> float:
        """Return how much dearer a step of `end` tokens is expected to be than one of `start`, 1.0 for as dear."""
        base, slope = self.fit()
        return (base + slope * end) / (base + slope * start)


class Curve:
    """Seconds by k, proposals per row, of steps of so many rows: running means, and a curve made when asked for.

    A mean of enough readings speaks for itself. Else it is a mean over all, less by half for each token of difference,
    each moved by what the line says of the tokens between. One reading may be anything. A mean of many readings moves
    little with one more, so the curve is made anew once some have come: making it is 40 % of a draft's planning.
    """

    SMOOTHING = 0.1
    ENOUGH = 4  # readings that speak for themselves
    OUTLIER = 1.5  # times what was expected: no reading counts for more
    LATE = 8  # readings of such means after which the curve is made anew
    AGAIN = 4  # steps after which a first reading is checked; so many times more after each further one
    RARELY = 4  # times that it becomes so many times more: 256 steps

    def __init__(self, rows: int, line: CostLine) -> None:
        self._steps = 0
        self._last: list[int] = [0]  # the step that was the last reading of each
        self._rows = rows
        self._line = line
        self._means: list[float] = [0.0]
        self._readings: list[int] = [0]
        self._curve: list[float] = []
        self._news = 0  # readings since it was made

    def due(self, k: int) -> bool:
        """Return whether steps with k proposals for each row have not been measured for too long."""
        readings, last = (self._readings[k], self._last[k]) if k < len(self._means) else (0, 0)
        wait: int = self.AGAIN ** min(readings + (k > 0), self.RARELY)
        return self._steps - last >= wait

    def observe(self, k: int, seconds: float) -> None:
        """Learn one step."""
        self._steps += 1
        missing = k + 1 - len(self._means)
        self._means += [0.0] * missing
        self._readings += [0] * missing
        self._last += [0] * missing
        self._last[k] = self._steps
        readings, mean = self._readings[k], self._means[k]
        if readings or (k and any(self._readings[1:])):
            seconds = min(seconds, self.OUTLIER * (mean if readings else self.at(k)))
        self._readings[k] = readings + 1
        self._means[k] += max(self.SMOOTHING, 1 / (readings + 1)) * (seconds - mean)
        self._line.move(self._tokens(k), (readings, readings + 1), (mean, self._means[k]))
        self._news += 1
        if readings * self.SMOOTHING < 1 or self._news >= self.LATE:
            self._curve = []

    def at(self, k: int) -> float:
        """Return the expected seconds of a step with k proposals for each row. Something was measured."""
        if k >= len(self._curve):
            self._curve, self._news = self._fit(k + BEYOND), 0
        return self._curve[k]

    def upto(self, most: int) -> list[float]:
        """Return the expected seconds with 0, 1, ... `most` proposals over all rows, not always as many for each.

        That there are any may cost something by itself, so there is no straight way between none and one for each.
        """
        rows, whole = self._rows, -(-most // self._rows)
        self.at(whole + 1)
        if rows == 1:
            return self._curve[: most + 1]
        base, slope = self._line.fit()
        none, one = self._curve[0], self._curve[1] / (base + slope * 2 * rows)
        found = [none, *(max(none, one * (base + slope * (rows + few))) for few in range(1, rows))]
        for k in range(1, whole + 1):
            here = self._curve[k]
            more = (self._curve[k + 1] - here) / rows
            found += [here + part * more for part in range(rows)]
        return found[: most + 1]

    def _tokens(self, k: int) -> int:
        return self._rows * (1 + k)

    def _fit(self, most: int) -> list[float]:
        """Return the expected seconds for k of 0 to `most` at least."""
        base, slope = self._line.fit()
        count = max(most + 1, len(self._means))
        line = [base + slope * self._tokens(k) for k in range(count)]
        near = self._near(line)
        least = next((k for k, readings in enumerate(self._readings) if k and readings), None)
        if least is None:
            return [self._means[0] * each / line[0] for each in line]
        first = self._means[0] if self._readings[0] else near[least] * line[0] / line[least]
        curve = [first + k / least * (near[least] - first) for k in range(least)]
        for k in range(least, len(near)):
            curve.append(self._means[k] if self._readings[k] >= self.ENOUGH else near[k])
        return [*curve, *(curve[-1] * each / line[len(curve) - 1] for each in line[len(curve) :])]

    def _near(self, line: list[float]) -> list[float]:
        """Return, for each k but 0, the mean of what similar steps took, in one pass upwards and one down."""
        own = [min(readings, 1 / self.SMOOTHING) for readings in self._readings]
        ratios = [0.0] * len(own)
        weights = [0.0] * len(own)
        passed = weight = 0.0
        for k in range(1, len(own)):
            passed, weight = passed / 2 + own[k] * self._means[k] / line[k], weight / 2 + own[k]
            ratios[k], weights[k] = passed, weight
        passed = weight = 0.0
        for k in range(len(own) - 1, 0, -1):
            ratios[k], weights[k] = ratios[k] + passed, weights[k] + weight
            passed, weight = (passed + own[k] * self._means[k] / line[k]) / 2, (weight + own[k]) / 2
        return [
            total / weight * each if weight else 0.0 for total, weight, each in zip(ratios, weights, line, strict=False)
        ]
