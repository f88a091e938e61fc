"""An in-memory RabbitMQ that really encodes and decodes, with the semantics that the product relies
on. ``tests/contract`` holds it against a real one.

``broker`` routes and is ill-treated, ``queue`` keeps messages, ``peer`` talks to one connection.
"""
