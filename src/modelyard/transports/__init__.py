"""Ways from dispatch to a pool. Each is one method, ``send``; all pass one contract suite.

Belongs here: carrying requests and outcomes, and handling faults on the way. Does not belong here:
caching, limits, clients' deadlines (all in dispatch), or anything about runners (pool).
"""
