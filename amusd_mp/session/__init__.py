"""Standing relations between nodes, over any transport: who is who, in which life, still there, and in step.

`Hub` is the listening end (the verify node's), `Link` the dialling end (a draft's or a client's). Both move messages;
neither knows a sequence. Reliability is written here once: incarnations, the subscription barrier, beats, retries under
one deadline. What a message means is the node's business; what a verify node tells of itself is put together in
`report`, `beats` and `trace`.
"""
