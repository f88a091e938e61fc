"""The owner of the runners of one target.

Belongs here: starting, feeding, watching and ending runner processes, and deciding which request is
to blame when one dies. Does not belong here: where requests come from, and who else serves the
target.

``pool`` is the entry point. ``waiting`` queues calls and chooses the next batch. ``runners`` owns
the slots and the target's state. ``slot`` is one runner's place, and ``runner_process`` its
process. ``blame`` decides what happens to the requests of a batch whose runner died.
"""
