"""What an operator sees: the only definitions of metrics, and the form of the logs.

Belongs here: names, labels, buckets, formats. Does not belong here: deciding when something counts.
"""
