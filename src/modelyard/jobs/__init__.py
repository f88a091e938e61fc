"""Jobs: requests that are kept until they are answered, and whose answers are fetched later.

Path of a job: ``gateway/submitting.py`` → ``intake.py`` (kept in the store, many at a time) →
``runner.py`` (leased from the store, and sent through ``dispatch`` at low priority) →
``finishing.py`` (its outcome is kept, by whoever holds the lease) → ``watching.py`` (who waits is
told) and ``courier.py`` (a callback is sent).

Here belongs what happens to a job between its 202 and its end. Tables are in ``store/jobs.py``,
HTTP is in ``gateway``.
"""
