"""Puts together what answers predictions: dispatch with its caches, and HTTP before it."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from modelyard.access.accounts import Accounts
from modelyard.access.gate import Gate
from modelyard.caches.layered import FarCache, LayeredCache
from modelyard.caches.memory import MemoryCache
from modelyard.compose.jobs import OpenJobs
from modelyard.compose.payloads import OpenPayloads
from modelyard.dispatch.catalog import Catalog
from modelyard.dispatch.dispatch import Dispatch
from modelyard.dispatch.interfaces import Cache, Transport
from modelyard.gateway.cors import Cors
from modelyard.gateway.predict import PredictEndpoint
from modelyard.settings import Settings
from modelyard.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelyard.gateway.traced import RequestSpans


def make_endpoint(
    settings: Settings,
    *,
    catalog: Catalog,
    transport: Transport,
    metrics: Metrics,
    cors: Cors,
    gate: Gate | None,
    shared_cache: FarCache | None,
    sticky_header: str,
    jobs: OpenJobs | None,
    payloads: OpenPayloads | None,
    accounts: Accounts | None,
    spans: RequestSpans | None,
) -> PredictEndpoint:
    """Return what answers predictions.

    Args:
        settings: The settings.
        catalog: The targets.
        transport: Where requests are sent.
        metrics: Those of the process.
        cors: Which origins may read the answers.
        gate: Says who may ask; None if everybody may.
        shared_cache: Behind the one in memory; None for none.
        sticky_header: The header that routes may stick to; empty for none.
        jobs: Are kept and run here; None if there is no store for them.
        payloads: Keeps a share of requests; None for none.
        accounts: Count what callers ask; None if nobody is known.
        spans: Of traced requests; None if there are no traces.
    """
    make_dispatch: Callable[..., Dispatch] = Dispatch
    if payloads is not None:
        from modelyard.payloads.dispatching import LoggedDispatch

        make_dispatch = partial(LoggedDispatch, payloads.log)
    dispatch = make_dispatch(
        catalog=catalog,
        transport=transport,
        cache=_make_cache(settings, shared_cache),
        metrics=metrics,
        timeout_cap_s=settings.max_timeout_s,
        clock=time.monotonic,
    )
    endpoint = PredictEndpoint(
        dispatch=dispatch,
        metrics=metrics,
        max_body_bytes=settings.max_body_bytes,
        max_bodies_bytes=settings.max_bodies_bytes,
        is_access_logged=settings.access_log,
        cors=cors,
        clock=time.monotonic,
        gate=gate,
        sticky_header=sticky_header,
        spans=spans,
    )
    metrics.watch_bodies(lambda: endpoint.budget.taken)
    if jobs is not None:
        endpoint.jobs = jobs.attach(dispatch, metrics.jobs, accounts, spans)
    return endpoint


def _make_cache(settings: Settings, shared: FarCache | None) -> Cache | None:
    near = MemoryCache(max_bytes=settings.cache_bytes, clock=time.monotonic)
    return LayeredCache(near, shared) if near.max_bytes or shared is not None else None
