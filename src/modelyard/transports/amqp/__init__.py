"""The transport through RabbitMQ: gateways on one side, workers on the other, each any number.

``transport`` is the gateway's side, ``consumer`` the worker's; ``announcer`` and ``watcher`` are
how one learns of the other. ``session`` keeps connections up, ``connection`` is one of them and
``parser`` reads it; ``topology`` names and declares, ``envelope`` is what travels. The only package
that knows of AMQP.
"""
