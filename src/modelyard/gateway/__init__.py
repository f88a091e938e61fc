"""HTTP: connections, requests, responses, and how errors appear there. No other package knows HTTP.

Belongs here: routes, bodies, headers, statuses, documentation. Does not belong here: anything that
would be the same for another protocol.
"""
