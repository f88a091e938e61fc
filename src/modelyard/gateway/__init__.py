"""The only HTTP: what comes in over it, what goes out, and how errors look there.

Belongs here: routes, bodies, headers, statuses, documentation. Does not belong here: anything that
would be the same if requests came another way.
"""
