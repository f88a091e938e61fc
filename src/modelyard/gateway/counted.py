"""Predictions of callers who are known: counted against their limits, and as what they used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from modelyard.access.accounts import Account, Entered
from modelyard.access.limits import Count
from modelyard.core.instances import MANY, count_instances
from modelyard.core.messages import Form
from modelyard.core.routes import UNKNOWN, Who
from modelyard.dispatch.dispatch import Ask, ClientCall, Dispatch
from modelyard.dispatch.streams import StreamCall
from modelyard.gateway.heads import Plan


def cost_of(dispatch: Dispatch, ask: Ask, form: Form, count: Count) -> float:
    """Return what a request counts for. Instances that are too many to be counted here count as a
    batch until it is answered.
    """
    if count == "requests":
        return 1
    known = dispatch.catalog.stable(ask.model_name, ask.model_version).announcement
    if count == "weight":
        return known.limits.weight
    instances = count_instances(memoryview(ask.input_data), form)
    return instances if instances < MANY else known.max_batch_size


def start_counted(
    dispatch: Dispatch,
    account: Account,
    ask: Ask,
    answered: Callable[[ClientCall], None],
    *,
    request_id: str,
    plan: Plan,
) -> ClientCall:
    """Call ``Dispatch.start`` for a caller who is known, if its limits allow it.

    Raises:
        RequestError: They do not, or see there; then nothing is counted.
    """
    entered: Sequence[Entered] = ()
    if account.meters:
        entered = account.enter(ask.model_name, partial(cost_of, dispatch, ask, plan.form))
    try:
        call = dispatch.start(
            ask,
            answered,
            request_id,
            form=plan.form,
            is_bypass=plan.is_bypass,
            tenant=account.tenant,
            caller=account.key,
            who=account.who if plan.who is UNKNOWN else plan.who._replace(owner=account.owner),
        )
    except BaseException:
        account.undo(entered)
        raise
    if call.outcome is not None:
        account.leave(entered, call)
    else:
        call.watch(partial(account.leave, entered))
    return call


def start_counted_stream(
    dispatch: Dispatch,
    account: Account,
    ask: Ask,
    begin: Callable[[str, Who], StreamCall],
    *,
    plan: Plan,
) -> StreamCall:
    """Call ``begin`` with what takes turns and what a route may stick to; see ``start_counted``."""
    entered: Sequence[Entered] = ()
    if account.meters:
        entered = account.enter(ask.model_name, partial(cost_of, dispatch, ask, plan.form))
    who = account.who if plan.who is UNKNOWN else plan.who._replace(owner=account.owner)
    try:
        call = begin(account.key, who)
    except BaseException:
        account.undo(entered)
        raise
    if call.outcome is not None:
        account.leave(entered, call)
    else:
        call.watch(partial(account.leave, entered))
    return call
