"""What callers are told if the broker does not take a bundle."""

from __future__ import annotations

from modelyard.core.errors import ModelNotReady, Overloaded, RequestError, Unavailable
from modelyard.core.names import Target
from modelyard.transports.amqp.confirms import NackedError, ReturnedError
from modelyard.transports.amqp.session import BrokerMetrics


def why_refused(target: Target, error: BaseException, metrics: BrokerMetrics) -> RequestError:
    """Return the error for the requests of a bundle, and count it."""
    if isinstance(error, ReturnedError):
        metrics.broker_event("returned")
        return ModelNotReady(f"{target} has no queue: no worker has declared it")
    if isinstance(error, NackedError):
        metrics.broker_event("nacked")
        return Overloaded(f"the queue of {target} is full")
    # It may still be delivered. Its items carry deadlines, so that they do not run late.
    metrics.broker_event("publish_timeout")
    return Unavailable(str(error))
