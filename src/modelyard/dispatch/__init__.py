"""The gateway's core: resolves a request for a model, and answers it by its deadline.

Belongs here: choice of the target, cache look-ups, single flight, limits on requests in flight,
deadlines. Does not belong here: HTTP in front of it, queues and processes behind it.
"""
