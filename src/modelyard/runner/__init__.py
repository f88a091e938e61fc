"""The process that hosts one model, and nothing else.

Belongs here: loading a model folder, answering batches, one blocking loop over a socket. Does not
belong here: asyncio, brokers, HTTP, or imports that cost start-up time and that no model needs.
"""
