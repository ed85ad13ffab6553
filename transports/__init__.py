"""Installed as `amusd_mp.transports`."""

if __name__ == "transports":  # a second identity of every class in here would make isinstance lie
    raise ImportError(
        "import amusd_mp.transports, not transports: install the project first (make demo, or pip install -e .)"
    )
