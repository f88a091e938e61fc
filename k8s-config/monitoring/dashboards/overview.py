"""For whoever is on call: is anything wrong, and with which model?"""

from __future__ import annotations

from layout import Dashboard, Panel, Query, Row

_TARGET = "{{model}} {{version}}"
_PROCESS = "{{pod}} {{instance}}"

OVERVIEW = Dashboard(
    uid="modelyard-overview",
    title="Modelyard: overview",
    about="All models at a glance. What is red here has an alert.",
    rows=[
        Row(
            "Now",
            [
                Panel(
                    "Requests",
                    [Query("sum(modelyard:requests:rate5m)", "")],
                    unit="reqps",
                    kind="stat",
                ),
                Panel(
                    "Errors",
                    [
                        Query(
                            "sum(modelyard:request_errors:rate5m) / sum(modelyard:requests:rate5m)",
                            "",
                        )
                    ],
                    unit="percentunit",
                    kind="stat",
                    limit=0.001,
                    about="The share of requests answered with a 5xx.",
                ),
                Panel(
                    "Versions that serve",
                    [Query("count(modelyard:runners_ready:max > 0)", "")],
                    kind="stat",
                    about="Model versions with at least one ready runner.",
                ),
                Panel(
                    "Gateways",
                    [Query("count(count by (instance) (modelyard_request_seconds_count))", "")],
                    kind="stat",
                    about="Processes that have answered a request.",
                ),
                Panel(
                    "Alerts",
                    [
                        Query(
                            'count(ALERTS{alertstate="firing", alertname=~"Modelyard.*"})'
                            " or vector(0)",
                            "",
                        )
                    ],
                    kind="stat",
                    limit=1,
                ),
            ],
        ),
        Row(
            "What callers feel",
            [
                Panel(
                    "Requests by model",
                    [Query("modelyard:requests:rate5m", _TARGET)],
                    unit="reqps",
                    is_stacked=True,
                ),
                Panel(
                    "Errors by model",
                    [Query("modelyard:request_errors:ratio5m", _TARGET)],
                    unit="percentunit",
                    limit=0.001,
                    about="The share of requests answered with a 5xx. The objective is 0.1 %.",
                ),
                Panel(
                    "99th percentile by model",
                    [Query("modelyard:request_seconds:p99_5m", _TARGET)],
                    unit="s",
                    about="From a request's arrival at the gateway to its answer.",
                ),
            ],
        ),
        Row(
            "Answers",
            [
                Panel(
                    "Answers by code",
                    [
                        Query(
                            "sum by (code) (rate(modelyard_requests_total[$__rate_interval]))",
                            "{{code}}",
                        )
                    ],
                    unit="reqps",
                    about="ok, or the code of the problem. Unknown models are counted here too.",
                ),
                Panel(
                    "Answers from the cache",
                    [
                        Query(
                            "sum by (model, version) (rate(modelyard_cache_requests_total"
                            '{use=~"hit|coalesced"}[$__rate_interval]))'
                            " / sum by (model, version) "
                            "(rate(modelyard_cache_requests_total[$__rate_interval]))",
                            _TARGET,
                        )
                    ],
                    unit="percentunit",
                    about="The share that needed no execution of its own.",
                ),
                Panel(
                    "Trouble with Redis",
                    [
                        Query(
                            "sum by (event) (rate(modelyard_redis_events_total[$__rate_interval]))",
                            "{{event}}",
                        )
                    ],
                    unit="ops",
                    about="skipped: the breaker is open, since Redis has failed several times.",
                ),
            ],
        ),
        Row(
            "Capacity",
            [
                Panel(
                    "Ready runners",
                    [Query("modelyard:runners_ready:max", _TARGET)],
                ),
                Panel(
                    "Busy runners",
                    [Query("modelyard:runners_busy:ratio5m", _TARGET)],
                    unit="percentunit",
                    limit=0.8,
                    about="The share of time inside predict. Above 80 % requests start to wait.",
                ),
                Panel(
                    "Wait for a runner",
                    [Query("modelyard:queue_wait_seconds:p95_5m", _TARGET)],
                    unit="s",
                    about="95th percentile, in the worker. Before that they wait in the broker.",
                ),
                Panel(
                    "Runners that ended unasked",
                    [
                        Query(
                            "sum by (model, version, cause) "
                            "(increase(modelyard_runner_restarts_total[$__rate_interval]))",
                            _TARGET + " {{cause}}",
                        )
                    ],
                ),
            ],
        ),
        Row(
            "Jobs and callbacks",
            [
                Panel(
                    "Jobs",
                    [
                        Query(
                            "sum(rate(modelyard_jobs_accepted_total[$__rate_interval]))", "accepted"
                        ),
                        Query(
                            "sum by (end) (rate(modelyard_job_attempts_total[$__rate_interval]))",
                            "{{end}}",
                        ),
                    ],
                    unit="ops",
                    about="Attempts by how they ended. again: tried anew. If more are accepted "
                    "than end, they pile up in the store.",
                ),
                Panel("Jobs that run", [Query("sum(modelyard_jobs_running)", "")]),
                Panel(
                    "Callbacks",
                    [
                        Query(
                            "sum by (end) (rate(modelyard_callbacks_total[$__rate_interval]))",
                            "{{end}}",
                        )
                    ],
                    unit="ops",
                    about="failed: given up. again: the receiver did not take it yet.",
                ),
            ],
        ),
        Row(
            "Releases, limits, streams",
            [
                Panel(
                    "Shadows",
                    [
                        Query(
                            "sum by (model, version, result) "
                            "(rate(modelyard_shadow_answers_total[$__rate_interval])) or vector(0)",
                            _TARGET + " {{result}}",
                        )
                    ],
                    unit="ops",
                    about="How a shadow's answers compare. dropped: it does not keep up.",
                ),
                Panel(
                    "Refused by limits",
                    [
                        Query(
                            "sum by (model) (rate(modelyard_requests_total"
                            '{code="rate_limited"}[$__rate_interval])) or vector(0)',
                            "{{model}}",
                        )
                    ],
                    unit="reqps",
                    about="Answered with 429: a key has asked more than it may.",
                ),
                Panel(
                    "Streams that broke off",
                    [
                        Query(
                            "sum by (model, version) (rate(modelyard_requests_total"
                            '{code="stream_broken"}[$__rate_interval])) or vector(0)',
                            _TARGET,
                        )
                    ],
                    unit="ops",
                    about="The process that answered ended, or its reader was too slow.",
                ),
                Panel(
                    "Callers who left",
                    [
                        Query(
                            'sum(rate(modelyard_requests_total{code="client_gone"}'
                            "[$__rate_interval])) or vector(0)",
                            "in gateways",
                        ),
                        Query(
                            'sum(rate(modelyard_broker_events_total{event="departed"}'
                            "[$__rate_interval]))",
                            "before it ran",
                        ),
                    ],
                    unit="ops",
                ),
            ],
        ),
        Row(
            "Processes",
            [
                Panel(
                    "CPU of gateways and workers",
                    [
                        Query(
                            'rate(process_cpu_seconds_total{job=~".*modelyard.*"}[$__rate_interval])',
                            _PROCESS,
                        )
                    ],
                    limit=0.9,
                    about="Each is one thread: at 1 it is full. Runners are not in it.",
                ),
                Panel(
                    "Memory of gateways and workers",
                    [Query('process_resident_memory_bytes{job=~".*modelyard.*"}', _PROCESS)],
                    unit="bytes",
                    about="Without their runners.",
                ),
            ],
        ),
    ],
)
