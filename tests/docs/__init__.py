"""The documentation for users: its code runs, its reference pages say what the code says."""
