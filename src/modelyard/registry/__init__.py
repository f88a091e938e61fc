"""The registry: versions of models, their artefacts and signatures, and aliases.

Here belongs what keeps a version and gets it back: artefacts by their content (``blobs.py``), the
rules of pushing and removing (``kept.py``), the same through a gateway (``remote.py``), folders
that are pushed and fetched (``folders.py``, ``cache.py``), signatures, and imports from elsewhere.
Rows are the store's.
"""
