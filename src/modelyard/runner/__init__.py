"""The process that hosts one model, and nothing else.

Belongs here: loading a model folder, answering batches, one blocking loop over a socket. Does not
belong here: asyncio, brokers, HTTP, anything that costs start-up time the model does not need.
"""
