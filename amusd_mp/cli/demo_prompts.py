"""The demo's prompts, of the two kinds of text that the bundled pair has learned: Python, and word problems.

Written for this project in the manner of HumanEval and GSM8K; no data set is quoted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class DemoPrompt:
    """A prompt and what to call it."""

    name: str
    text: str


PROMPTS: Final = (
    DemoPrompt(
        "code: count_above",
        '''from typing import List


def count_above(numbers: List[float], limit: float) -> int:
    """ Return how many of the numbers are greater than the limit.
    >>> count_above([1.0, 4.5, 3.0], 2.0)
    2
    """
''',
    ),
    DemoPrompt(
        "problem: the bakery",
        "Question: A bakery bakes 12 loaves of bread every morning and sells each loaf for $3. On Sunday it bakes "
        "twice as many. How many dollars does the bakery make in a week if it sells all the bread?\nAnswer:",
    ),
    DemoPrompt(
        "code: join_words",
        '''def join_words(words, separator=" "):
    """ Join a list of words with the separator, and leave out the empty ones.
    >>> join_words(["to", "", "be"], "-")
    'to-be'
    """
''',
    ),
    DemoPrompt(
        "problem: the library",
        "Question: Anna reads 15 pages of a book every day and her brother reads 5 pages more than she does. The book "
        "has 180 pages. How many days earlier does her brother finish the book?\nAnswer:",
    ),
)
