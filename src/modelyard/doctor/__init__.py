"""``modelyard doctor``: what is wrong with an installation, and what to do.

Belongs here: a check that looks at what settings name, or at this machine, says what it has found,
and leaves everything as it was. What talks to a service is with that service's client:
``transports/amqp/trial.py``, ``caches/trial.py``, ``store/trial.py``. Does not belong here:
whatever a server needs to run.

``examine.py`` runs the checks; each of the others is one.
"""
