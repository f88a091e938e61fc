"""The owner of the runners of one target.

Belongs here: starting, feeding, watching and ending runner processes, and deciding who was to blame
when one dies. Does not belong here: where requests come from, and who else serves the target.

``pool`` is the way in and ties the rest together: ``waiting`` is what waits and which of it runs
next, ``runners`` owns the slots and says what is true of the target, ``slot`` is one runner's
place, ``runner_process`` its process, ``blame`` decides what happens to a batch whose runner died.
"""
