"""Deployments, ready to run. Installed as `amusd_mp.configs`, so that `amusd-mp demo` finds its file anywhere."""

if __name__ == "configs":
    raise ImportError(
        "import amusd_mp.configs, not configs: install the project first (make demo, or pip install -e .)"
    )
