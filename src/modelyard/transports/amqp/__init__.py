"""The transport through RabbitMQ, between any number of gateways and workers.

``transport`` is the gateway's side, ``consumer`` the worker's. Workers announce themselves by
``announcer``, and gateways listen by ``watcher``. ``session`` keeps connections open;
``connection`` is one of them, and ``parser`` reads its bytes. ``topology`` names and declares
exchanges and queues. ``envelope`` defines the messages. This is the only package that knows AMQP.
"""
