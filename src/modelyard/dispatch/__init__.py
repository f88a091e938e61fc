"""The asking side: from a request for a model to its answer, by its deadline.

Belongs here: which target, whether the answer is known or on its way, how many at once, how long to
wait. Does not belong here: HTTP before it, queues and processes behind it.
"""
