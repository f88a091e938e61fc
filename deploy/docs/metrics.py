"""docs/metrics.md: each metric with its kind and labels, from the code, and what to make of it."""

from __future__ import annotations

from typing import Any, NamedTuple

from modelyard.telemetry.metrics import Metrics

_PAGE = """\
# Metrics

<!-- Written by `make reference` from modelyard.telemetry and deploy/docs/metrics.py. -->

What `/metrics` of a gateway and of a worker says, beside the `process_…` and `python_…` of the Prometheus library. Values of labels come
from manifests and from the code, never from clients, so their number is bounded. Metrics that
[models have of their own](writing-a-model.md#metrics) are there as well: `model_` and the name that the model gives, with `model`, `version` and
the model's own labels; no name of ours begins like that. Rules, alerts and dashboards on top of these:
[monitoring](monitoring.md).

| metric | kind | labels |
|---|---|---|
{rows}

{sections}"""


class Note(NamedTuple):
    """What usually moves a metric, and what to do then."""

    causes: str
    do: str


NOTES = {
    "modelyard_requests_total": Note(
        "`code` is `ok`, or one of [errors](errors.md), where each has its causes. Labels are empty for models that do not exist.",
        "compare codes: 5xx of one model are its own or its capacity's, `unavailable` of all models is the broker's.",
    ),
    "modelyard_request_seconds": Note(
        "a slower `predict`, or a longer wait before it; what of both, `modelyard_model_seconds` and `modelyard_queue_wait_seconds` say. Answers of the cache count as well.",
        "more runners or workers if requests wait; the model's release, inputs and CPU if `predict` is slower.",
    ),
    "modelyard_cache_requests_total": Note(
        "`hit` falls after a release of the model, since its digest is part of the key, and where inputs do not repeat. `bypass` is `Cache-Control: no-cache`, or a model without `ttl_s`.",
        "see [caching](caching.md) for what is stored, and how long.",
    ),
    "modelyard_in_flight": Note(
        "it stays at the model's `max_in_flight` when requests come faster than they are answered; then callers get `overloaded`.",
        "add runners or workers; raise `max_in_flight` if callers rather wait.",
    ),
    "modelyard_demand_runners": Note(
        "more requests, or more seconds for each instance. Autoscalers read it.",
        "compare it with `modelyard_runners`: if it stays above, the autoscaler is at its maximum, or pods are pending.",
    ),
    "modelyard_body_bytes": Note(
        "large bodies, and clients that send them slowly.",
        "at `max_bodies_bytes` large requests get a 503: raise that, or give clients a smaller `max_body_bytes`.",
    ),
    "modelyard_queue_wait_seconds": Note(
        "all runners are busy. The wait in the broker is not part of it: see the queue's length there.",
        "raise `max_runners`, the number of workers, or `max_batch_size` if the model gains from batches.",
    ),
    "modelyard_batch_size": Note(
        "it grows with load, up to `max_batch_size`; a small one under load means that requests arrive one by one.",
        "nothing, unless the model gains from batches and gets none: then see `max_wait_ms` in [model.toml](model-toml.md).",
    ),
    "modelyard_model_seconds": Note(
        "another release of the model, larger inputs or batches, a CPU or device that others use.",
        "compare with the release before, at the same batch size; `modelyard check FOLDER` measures one alone.",
    ),
    "modelyard_runners": Note(
        "`all` and `ready` differ while runners start, and after they have died. A worker reports its own, a gateway those of all workers.",
        "if they stay apart, `modelyard models` and the log (`runner_lost`) say why.",
    ),
    "modelyard_runner_restarts_total": Note(
        "`crashed`: the model, or a library of it. `killed`: the system, mostly for memory. `hung`: `predict` did not come back by the deadline. `load_failed`: it cannot be loaded.",
        "see the line `runner_lost` in the log, with the last lines that the model wrote, and the ids of the requests that it had.",
    ),
    "modelyard_expired_total": Note(
        "`asking`: no answer came to the gateway in time. `waiting`: it was dropped before it ran, since it was late already.",
        "as for [deadline_exceeded](errors.md#deadline_exceeded).",
    ),
    "modelyard_late_replies_total": Note(
        "`timeout_s` is shorter than what the model takes, or a request was sent again and both answers came.",
        "raise the model's `timeout_s`, or add runners.",
    ),
    "modelyard_shadow_answers_total": Note(
        "`different` of a version that should answer alike; `failed` and `dropped` if it does not keep up.",
        "look at the shadow before it gets requests of its own: [releases](releases.md).",
    ),
    "modelyard_shadow_seconds_total": Note(
        "a shadow that is slower than the version it is compared with.",
        "divide it by the answers that were not `dropped`, and compare with `modelyard_request_seconds`.",
    ),
    "modelyard_broker_events_total": Note(
        "`resent`, `redelivered`: a connection or a worker was lost. `returned`: no worker has ever been up for this queue. `nacked`: the queue is full. "
        "`publish_timeout`: the broker is blocked or slow. `departed`, `expired`: dropped unrun, since nobody waits any more. `refused`: a worker could not read it. "
        "`late`, `orphan`: answers to requests that were settled.",
        "some of each is normal in a rollout. If they go on, `modelyard doctor`, and the broker's dashboard.",
    ),
    "modelyard_broker_connected": Note(
        "0: the broker is down, cannot be reached, or refuses the user. It is absent without a broker.",
        "`modelyard doctor` with the settings of this process says which.",
    ),
    "modelyard_redis_events_total": Note(
        "`error`: Redis is away or takes more than 50 ms. `skipped`: the breaker is open after three of those. `dropped`: too many writes waited. `damaged`: a value that is none of ours.",
        "`modelyard doctor` says whether Redis answers, and how fast. Requests are served meanwhile.",
    ),
    "modelyard_jobs_accepted_total": Note(
        "callers that send [jobs](jobs.md).",
        'compare it with `modelyard_job_attempts_total{end!="again"}`: if more are accepted than end, jobs pile up in the store.',
    ),
    "modelyard_job_attempts_total": Note(
        "`again`: an attempt failed and is made anew, or its gateway was lost. `failed`: the model refused the input, or attempts are used up.",
        "see the job's error in the console or at `GET /jobs/ID`; by code, they are those of [errors](errors.md).",
    ),
    "modelyard_jobs_running": Note(
        "as many jobs as the model's capacity leaves room for, at low priority.",
        "at 0 while jobs wait: no capacity is left beside other requests, or the database is away.",
    ),
    "modelyard_payload_records_total": Note(
        "`full`: the writer did not keep up, or cannot write. `lost`: it died with them. `failed`: an error of ours, on the standard error.",
        "see `modelyard_payload_log_failing`; with a busy [payload log](payload-log.md), a smaller `rate`.",
    ),
    "modelyard_payload_log_failing": Note(
        "a full disk, an endpoint that is away, a bucket that refuses: the line `payload_log_failing` in the log says which.",
        "mend that: the writer tries again by itself, and callers do not notice.",
    ),
    "modelyard_drift_windows_total": Note(
        "requests of models with a [reference](drift.md); a window may take up to `window_s`.",
        "nothing; if it stays at 0, too few requests are chosen by the log's `rate`.",
    ),
    "modelyard_drift_detected": Note(
        "what is asked is unlike the [reference](drift.md): another population, unit or default, a field that is no longer filled.",
        "look at the figures on the model's page of the console, then ask who sends it; else train on newer data.",
    ),
    "modelyard_drift": Note(
        "as `modelyard_drift_detected`. `psi` and `ks` of few instances vary by chance.",
        "compare with the windows before.",
    ),
    "modelyard_model_metrics_dropped_total": Note(
        "`invalid`: Prometheus does not allow a name, label, bucket or value. `other_kind`: the name is taken, maybe by another model, with another kind or other buckets. "
        "`too_many`: a label has many values, such as ids. The log says which metric, once.",
        "correct [the model](writing-a-model.md#metrics); its predictions are not touched.",
    ),
    "modelyard_callbacks_total": Note(
        "`again`: the receiver did not answer 2xx, and is asked later. `failed`: it was asked until the tries were used up.",
        "look at the receiver; `GET /jobs/ID` says what it answered.",
    ),
    "modelyard_used_requests_total": Note(
        "callers, by owner and key. Beyond a number of callers they are counted as `other`.",
        "`modelyard usage` has the same by day, from the store.",
    ),
    "modelyard_used_instances_total": Note("requests with more instances.", "as above."),
    "modelyard_used_model_seconds_total": Note(
        "larger inputs, or a slower model.",
        "set limits for keys that use more than their share: [who may ask](access.md).",
    ),
}


def metrics_page() -> str:
    """Give docs/metrics.md."""
    rows, sections = [], []
    for name, family, labels in families():
        note = NOTES[name]
        shown = ", ".join(f"`{label}`" for label in labels)
        rows.append(f"| [`{name}`](#{name}) | {family.type} | {shown} |")
        sections.append(
            f"## {name}\n\n{_kind(family.type, shown)} {family.documentation}\n\n"
            f"**Usual causes:** {note.causes}\n\n**Do:** {note.do}\n"
        )
    return _PAGE.format(rows="\n".join(rows), sections="\n".join(sections))


def families() -> list[tuple[str, Any, list[str]]]:
    """Give our metrics: the name as it is scraped, the family, and the names of its labels."""
    registry = Metrics().registry
    found = []
    for collector in list(registry._collector_to_names):
        for family in collector.collect():
            if family.name.startswith("modelyard_"):
                name = family.name + ("_total" if family.type == "counter" else "")
                found.append((name, family, _labels_of(collector)))
    return found


def _labels_of(collector: Any) -> list[str]:
    """Give the names of a metric's labels, which the library shows on values alone."""
    about = getattr(collector, "_about", None)  # telemetry.collectors
    return list(about[2] if about else getattr(collector, "_labelnames", ()))


def _kind(kind: str, labels: str) -> str:
    return f"*{kind.capitalize()}" + (f" by {labels}.*" if labels else ".*")
