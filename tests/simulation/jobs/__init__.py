"""Jobs: clients who submit them, gateways that run them, and the database that keeps them.

All of ``modelyard.jobs`` and ``modelyard.store`` is the real code; the database is an SQLite in
memory, in which each transaction happens at one moment of virtual time.
"""
