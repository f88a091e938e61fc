"""How a model in its runner asks other models: through a gateway, as any client does.

Belongs here: whose deadline, priority, id and trace a call has (``caller.py``), and the two ways of
HTTP, blocking and awaited. Requests, answers and retries are those of the Python client, of which
only what does no I/O is used: its HTTP library is in no ``isolated`` environment. So the two ways
are the standard library's.
"""
