"""Modelyard: one HTTP API in front of many machine-learning models.

These are the names that model authors need. Importing them starts nothing, and imports neither a
web framework nor an event loop.
"""

from modelyard.core.arrays import Tensor
from modelyard.core.called import CallFailed
from modelyard.core.columns import Columns
from modelyard.core.errors import Cancelled, InvalidInput
from modelyard.model import Model, StreamingModel

__all__ = [
    "CallFailed",
    "Cancelled",
    "Columns",
    "InvalidInput",
    "Model",
    "StreamingModel",
    "Tensor",
    "__version__",
]

__version__ = "0.1.0"
