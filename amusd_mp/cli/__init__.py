"""The command line, `amusd-mp`. One module per command; `app` lists them.

Commands import what they need when they run, so that `--version` and `--help` stay quick and load no model library.
"""

from __future__ import annotations


def main() -> None:
    """Run the command line and exit with its code: 0, 1 (something failed) or 2 (the call or the file is wrong)."""
    from amusd_mp.cli.app import run

    run()
