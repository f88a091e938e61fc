"""A crowd of idle, slow and rude clients, and ordinary ones beside them: `make attack`."""
