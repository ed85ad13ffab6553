"""`python -m amusd_mp` is `amusd-mp`; the launcher starts nodes this way, with the interpreter it runs on itself."""

from __future__ import annotations

from amusd_mp.cli import main

if __name__ == "__main__":
    main()
