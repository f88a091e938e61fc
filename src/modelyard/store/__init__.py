"""The database: what must last, in SQLite or PostgreSQL.

Here belong tables, their migrations, and what reads and writes them. A server never changes the
schema: ``modelyard store upgrade`` does (``schema.py``). The libraries are the extra
``modelyard[store]``, so this package is imported only where a store is used.
"""
