"""Installed as `amusd_mp.nodes`."""

if __name__ == "nodes":  # a second identity of every class in here would make isinstance lie
    raise ImportError("import amusd_mp.nodes, not nodes: install the project first (make demo, or pip install -e .)")
