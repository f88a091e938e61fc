"""What a model gets that calls another one, and has no answer."""

from __future__ import annotations

from modelyard.core.errors import DeadlineExceeded, ModelFailed, RequestError, Unavailable


class CallFailed(Exception):
    """A model that was called has no answer.

    A model that does not catch it fails so towards its own caller: with 504 if the time is over,
    with 503 if the other model cannot be asked now, else with 502; the answer names both models.

    Attributes:
        caller: The model that called.
        model: The model that was called.
        code: What happened, for programs: see ``docs/errors.md``; ``undeclared`` for a model that
            ``model.toml`` does not list.
        detail: What happened, for people.
        status: The HTTP status; None if there was no answer.
        retry_after_s: When another try makes sense, if that is known.
    """

    def __init__(
        self,
        detail: str,
        *,
        caller: str,
        model: str,
        code: str,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{model}, which {caller} calls: {detail}")
        self.caller = caller
        self.model = model
        self.code = code
        self.detail = detail
        self.status = status
        self.retry_after_s = retry_after_s

    @property
    def is_late(self) -> bool:
        """Whether the time was over."""
        return self.code == DeadlineExceeded.code

    @property
    def is_temporary(self) -> bool:
        """Whether another try may succeed."""
        return self.status in (429, 503) or self.code == "connection_failed"

    def outcome(self) -> RequestError:
        """Return what the caller of the model gets that called."""
        if self.is_late:
            return DeadlineExceeded(str(self))
        if self.is_temporary:
            after_s = None if self.retry_after_s is None else max(1, round(self.retry_after_s))
            return Unavailable(str(self), retry_after_s=after_s or 1)
        return ModelFailed(str(self))
