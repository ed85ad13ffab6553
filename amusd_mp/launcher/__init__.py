"""Starting nodes: each as a process of its own, by command line, watched, restarted if asked for, and never orphaned.

`launcher` starts a deployment's local nodes in order and stops them; `keeper` keeps one running, `process` is one
child, `command_line` how it is called; `cluster` does it all from Python. It imports no node and no model library.
"""
