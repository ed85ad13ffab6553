"""Speculation without a network, a clock or a model: messages, committed tokens, proposals, and both state machines.

Nothing here imports asyncio, torch, zmq, time, random, logging or threading. Time and randomness are arguments; what
to send is returned; what to compute is a `Step`. So every race of the algorithm is a unit test on two objects.

The rules that comments here go back to:

    V1  the verify node is the only authority; what is committed never changes
    V2  a proposal is evidence: it counts only where its content continues the committed tokens
    V3  how much to use, and whether to wait, is what yields most tokens per second (`policy`)
    V4  sequences share a pass, each with its own number of proposals; one's miss stalls no other
    V5  a sequence ends exactly, and every count is cut there
    V6  a step pins what it uses; a sequence closed meanwhile gets nothing from it
    V7  the last committed token is in no cache yet: every block begins with it
    D1  the draft guesses until its lead is full and what may come instead is prepared (`branches`), then waits for a
        commit and repeats its window at every beat
    D2  it takes what arrived between steps only, several commits as one, and waits for no network
    D3  on a commit it keeps the lead, jumps forward or rolls back: its cache holds exactly the ids that were fed
    D4  it sends the whole lead each time, so the next message repairs a lost one
    D5  it learns the prompt by asking, and drops what the verify node no longer names
"""
