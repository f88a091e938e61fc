"""The process that keeps what a gateway hands over: started by ``payloads/process.py``, never
imported.

It decodes, masks and drops (``decoding.py``, ``masking.py``) before anything is kept, gathers
records in chunks (``chunks.py``), and gives these to a sink: ``files.py`` or ``events.py``. A sink
that fails is tried again; meanwhile chunks fill a bounded memory, then nothing more is read, and
the gateway drops. It blocks as it likes: no request waits for it.
"""
