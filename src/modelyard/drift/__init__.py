"""Drift: whether what a model is asked, and answers, is still what it was made with.

What belongs here: the profile of a reference (``profile.py``), windows of what comes
(``windows.py``), and the tests that compare them (``tests_of.py``). All of it is computed by the
payload writer, or by a command; a gateway only shows the result. Libraries: ``modelyard[drift]``.
"""
