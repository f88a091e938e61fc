"""``modelyard build``: a container image of one model and of the Modelyard that runs here.

``context.py`` writes the folder that a builder gets: a Dockerfile, the model, a wheel made from
what is installed (``wheel.py``) and the versions of all that it needs (``pins.py``). ``builder.py``
finds docker, podman or buildah and runs it. Nothing here needs a clone of the repository.
"""

from __future__ import annotations


class ImageError(Exception):
    """The image cannot be built; the text says why and what to do."""
