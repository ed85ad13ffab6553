"""Small tables as aligned plain text, readable on a terminal and in a file alike."""

from __future__ import annotations

from collections.abc import Sequence


def columns(rows: Sequence[Sequence[str]], numeric: Sequence[int] = ()) -> list[str]:
    """Return rows of equal length as lines; the columns at the indices in `numeric` are set to the right."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))] if rows else []
    return [
        "  ".join(
            cell.rjust(width) if at in numeric else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
