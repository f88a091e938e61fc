"""The Open Inference Protocol V2 over gRPC: the same requests as ``/v2``, on a port of its own.

Here belongs what translates between gRPC's messages and what the gateway asks and tells:
``inference.py`` is on the way of a prediction, ``pages.py`` answers everything else. Queues,
retries, limits and metrics are the gateway's. The libraries are the extra ``modelyard[grpc]``, so
this package is imported only where gRPC is served.
"""
