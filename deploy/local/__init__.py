"""``make cluster``: every part of a cluster as a process of this machine, to try it and to develop.

For developers: nothing here is part of what is released, and nothing of it is for production. A
general process manager would not do: those known to us know nothing of readiness, end everything at
once instead of front to back, and give a draining process only a few seconds.
"""
