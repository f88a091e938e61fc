"""Answers already known. A cache that is full, down or slow is a miss, never an error or a wait.

Belongs here: keeping bytes under a key for a time. Does not belong here: what the key means.
"""
