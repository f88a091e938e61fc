"""``Model``: what a user subclasses. One class, one method that must be written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar


class Model(ABC):
    """A model that Modelyard can serve.

    One object lives in one process of its own and is called by one thread, so it may keep state and
    need not be thread-safe. The order of calls: ``load``, ``warm_up``, ``predict`` as often as
    there are batches, ``unload``.

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
        """Do what the first request should not wait for; the example has been predicted before."""

    @abstractmethod
    def predict(self, instances: Any) -> Any:
        """Answer a batch.

        Annotate it: the annotations become validation, schema and documentation.

        Args:
            instances: ``list[T]``, or a numpy array declared by ``Tensor``, of at most
                ``max_batch_size`` instances; they may come from several callers.

        Returns:
            One prediction per instance, in the same order.

        Raises:
            InvalidInput: An instance cannot be predicted on, and that is the caller's to mend: the
                answer is 422 with the model's words.
            Exception: Any other: the answer is 502, and the log has the traceback. In both cases
                the batch is run again request by request, and only the callers whose own instances
                raise get an error.
        """

    def unload(self) -> None:  # noqa: B027  (optional)
        """Let go of what the process's end does not free."""
