"""Measuring what speculation gains: prompts, ways to answer them, paired numbers with their spread, timelines.

`run` leads through one benchmark; the other modules are its parts and know neither processes nor a terminal. Nothing
here takes part in generating, and nothing outside the command line imports it.
"""
