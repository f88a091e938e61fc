"""Caches of answers. A cache that is full, down or slow is a miss, never an error or a delay.

Belongs here: storing bytes under a key for some time. Does not belong here: the meaning of the key.
"""
