"""`amusd-mp report`: what benchmarks found, from their folders alone: one in full, several beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, or their summary.json.", show_default=False)],
) -> None:
    """Print the table of a benchmark run, or compare several."""
    from amusd_mp.bench.folder import load_summary
    from amusd_mp.bench.tables import beside, lines
    from amusd_mp.cli.columns import columns

    summaries = [load_summary(path) for path in runs]
    shown = lines(summaries[0], columns) if len(summaries) == 1 else beside(summaries, columns)
    for line in shown:
        typer.echo(line)
