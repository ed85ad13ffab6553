"""Speculation without a network, a clock or a model: messages, committed tokens, proposals, and both state machines.

Nothing here imports asyncio, torch, zmq, time, random, logging or threading. Time and randomness are arguments; what
to send is returned; what to compute is a `Step`. So every race of the algorithm is a unit test on two objects.
"""
