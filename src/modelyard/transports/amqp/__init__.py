"""The transport through RabbitMQ: gateways on one side, workers on the other, each any number.

``client`` is the gateway's side, ``server`` the worker's, ``announcing`` how one learns of the
other; ``session`` keeps connections up, ``topology`` names and declares, ``envelope`` is what
travels. The only package that knows of AMQP.
"""
