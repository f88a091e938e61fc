"""The vocabulary that all parts share. Nothing here acts by itself.

Belongs here: pure data and pure functions. Does not belong here: I/O, asyncio, the environment,
clocks that are not passed in, knowledge of HTTP, brokers or processes.
"""
