"""Who may ask, and what: keys, scopes, and the gate that every request passes.

Here belongs what decides about a caller. No request waits for it: a gateway holds a ``Keyring``,
which is replaced whole when its source changes (``source.py``), and looks callers up in it
(``gate.py``).
"""
