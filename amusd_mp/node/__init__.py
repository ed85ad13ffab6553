"""One node as one process: the contract a role fulfils, and the life that every node shares.

`contract` is what a program must do to be a node; `lifecycle` runs one in this process, with `binding` to its device,
`signals` and `log`. Who starts it, and on which host, is the launcher's or a scheduler's business.
"""

from amusd_mp.node.contract import LoadModel, Node, NodeContext, find_role, known_roles

__all__ = ["LoadModel", "Node", "NodeContext", "find_role", "known_roles"]
