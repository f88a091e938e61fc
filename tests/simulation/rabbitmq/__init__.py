"""An in-memory RabbitMQ that really encodes and decodes, with the semantics that the product relies
on. ``test_rabbitmq.py`` holds it against a real one.

``broker`` routes and is ill-treated, ``queue`` keeps messages, ``peer`` talks to one connection and
``channel`` does what is asked there.
"""
