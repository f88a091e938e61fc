"""``Model``: the class that users subclass. Only ``predict`` must be implemented."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar


class Model(ABC):
    """A model that Modelyard can serve.

    Each object lives in a process of its own and is called by one thread, so it may keep state and
    need not be thread-safe. The calls are ``load``, ``warm_up``, ``predict`` once per batch, and
    ``unload``, in this order.

    Attributes:
        assets: The model's ``assets/`` folder. Files that ``model.toml`` lists under
            ``[artefacts]`` have been checked against their digest before ``load`` is called.
        example: Instances that ``predict`` can answer, as a caller would send them. They warm the
            model up, and the documentation shows them.
    """

    assets: Path
    example: ClassVar[Any] = None

    def load(self) -> None:  # noqa: B027  (optional)
        """Read the artefacts. Raise to say that the model cannot be served."""

    def warm_up(self) -> None:  # noqa: B027  (optional)
        """Do work that the first request should not wait for. Called after the example has been
        predicted.
        """

    @abstractmethod
    def predict(self, instances: Any) -> Any:
        """Answer a batch.

        Annotate it: validation, schemas and documentation are derived from the annotations.

        Args:
            instances: ``list[T]``, or a numpy array declared by ``Tensor``, of at most
                ``max_batch_size`` instances; they may come from several callers.

        Returns:
            One prediction per instance, in the same order.

        Raises:
            InvalidInput: An instance cannot be predicted on, and the caller should correct it. The
                caller gets a 422 with this text.
            Exception: Anything else. The caller gets a 502, and the log has the traceback. In both
                cases the batch is run again request by request, and only callers whose own
                instances raise get an error.
        """

    def unload(self) -> None:  # noqa: B027  (optional)
        """Release what the end of the process does not free."""
