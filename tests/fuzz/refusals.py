"""What every refusal must be, whichever parser it comes from."""

from __future__ import annotations

from modelyard.core.errors import RequestError
from modelyard.gateway.answer import error_answer, problem_answer


def check_refusal(error: RequestError) -> None:
    """Check that an error can be told to the client: it is one of the tree, and has a status."""
    assert type(error) is not RequestError, "an internal error"
    assert problem_answer(error, "fuzz")[1]
    assert error_answer(error, "fuzz", input_name="instances")[1]
