"""Predictions of callers who are known: counted against their limits, and as what they used."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from modelyard.access.accounts import Account, Entered
from modelyard.access.keyring import Principal
from modelyard.access.limits import Count
from modelyard.core.instances import MANY, count_instances
from modelyard.core.messages import Form
from modelyard.dispatch.dispatch import Ask, ClientCall, Dispatch


def cost_of(dispatch: Dispatch, ask: Ask, form: Form, count: Count) -> float:
    """Return what a request counts for. Instances that are too many to be counted here count as a
    batch until it is answered.
    """
    if count == "requests":
        return 1
    known = dispatch.catalog.resolve(ask.model_name, ask.model_version).announcement
    if count == "weight":
        return known.limits.weight
    instances = count_instances(memoryview(ask.input_data), form)
    return instances if instances < MANY else known.max_batch_size


def start_counted(
    start: Callable[..., ClientCall],
    principal: Principal,
    account: Account,
    entered: list[Entered],
    *what: Any,
    **how: Any,
) -> ClientCall:
    """Call ``start``, which is ``Dispatch.start``, for a caller who has been let in.

    Raises:
        RequestError: See there; then nothing is counted.
    """
    try:
        call = start(*what, tenant=principal.tenant, caller=principal.id, **how)
    except BaseException:
        account.undo(entered)
        raise
    if call.is_settled:
        account.leave(entered, call)
    else:
        call.watch(partial(account.leave, entered))
    return call
