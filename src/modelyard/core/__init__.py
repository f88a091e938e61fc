"""What every part agrees on, and nothing that does anything by itself.

Belongs here: pure data and pure functions. Does not belong here: input and output, asyncio,
the environment, clocks that are not handed in, knowledge of HTTP, brokers or processes.
"""
