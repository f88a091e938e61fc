"""The Python client (clients/python): its rules alone, and against real servers."""
