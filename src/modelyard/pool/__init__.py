"""The owner of the runners of one target.

Belongs here: starting, feeding, watching and ending runner processes, and deciding who was to blame
when one dies. Does not belong here: where requests come from, and who else serves the target.
"""
