"""Ways from dispatch to a pool. Each is one method, ``send``; all pass one contract suite.

Belongs here: carrying requests and outcomes, and the faults of what carries them. Does not belong
here: caching, limits, deadlines of those who wait (dispatch), or anything about runners (pool).
"""
