"""`amusd-mp check FILE`: everything that can be found wrong without starting or loading anything."""

from __future__ import annotations

from amusd_mp.cli.options import File, Host, Sets


def command(file: File, sets: Sets = None, host: Host = None) -> None:
    """Check a deployment file without starting anything: keys, addresses, models, devices. Exit code 2 on problems."""
    import typer

    from amusd_mp.cli.inspection import inspect, summary
    from amusd_mp.config import examine

    deployment, errors = examine(file, sets or ())
    problems = [str(error) for error in errors]
    notes: list[str] = []
    if deployment is not None and not errors:  # one that contradicts itself cannot be asked what dials what
        for line in summary(deployment):
            typer.echo(line)
        found = inspect(deployment, host)
        problems += found.problems
        notes += found.notes
    for note in notes:
        typer.echo(f"note: {note}")
    for problem in problems:
        typer.echo(f"problem: {problem}", err=True)
    if problems:
        raise typer.Exit(2)
    typer.echo("no problems found")
