"""For a model's team: how is our model, and where does the time go?"""

from __future__ import annotations

from layout import Dashboard, Panel, Query, Row, Variable

_THIS = 'model="$model", version="$version"'
_RATE = "[$__rate_interval]"


def _sum(metric: str, by: str = "", where: str = "") -> str:
    """Give the rate of a counter of this model, summed."""
    by = f" by ({by}) " if by else ""
    where = f", {where}" if where else ""
    return f"sum{by}(rate({metric}{{{_THIS}{where}}}{_RATE}))"


def _mean(histogram: str) -> str:
    return f"{_sum(histogram + '_sum')} / {_sum(histogram + '_count')}"


def _quantile(share: float, histogram: str) -> str:
    return f"histogram_quantile({share}, {_sum(histogram + '_bucket', by='le')})"


MODEL = Dashboard(
    uid="modelyard-model",
    title="Modelyard: model",
    about="One version of one model.",
    variables=[
        Variable("model", "label_values(modelyard_runners, model)"),
        Variable("version", 'label_values(modelyard_runners{model="$model"}, version)'),
    ],
    rows=[
        Row(
            "What callers feel",
            [
                Panel(
                    "Answers",
                    [Query(_sum("modelyard_requests_total", by="code"), "{{code}}")],
                    unit="reqps",
                    is_stacked=True,
                    about="ok, or the code of the problem.",
                ),
                Panel(
                    "Errors",
                    [
                        Query(f"modelyard:request_errors:ratio5m{{{_THIS}}}", "5 minutes"),
                        Query(f"modelyard:request_errors:ratio1h{{{_THIS}}}", "1 hour"),
                        Query(f"modelyard:request_errors:ratio6h{{{_THIS}}}", "6 hours"),
                    ],
                    unit="percentunit",
                    limit=0.001,
                    about="The share answered with a 5xx. The objective is 0.1 % in 30 days.",
                ),
                Panel(
                    "Latency",
                    [
                        Query(_quantile(0.5, "modelyard_request_seconds"), "half"),
                        Query(_quantile(0.95, "modelyard_request_seconds"), "95 %"),
                        Query(_quantile(0.99, "modelyard_request_seconds"), "99 %"),
                    ],
                    unit="s",
                    about="So many are answered by then.",
                ),
            ],
        ),
        Row(
            "Where the time goes",
            [
                Panel(
                    "Latency, all of it",
                    [
                        Query(
                            f"sum by (le) (increase(modelyard_request_seconds_bucket{{{_THIS}}}"
                            f"{_RATE}))",
                            "{{le}}",
                        )
                    ],
                    unit="s",
                    kind="heatmap",
                ),
                Panel(
                    "Means",
                    [
                        Query(_mean("modelyard_request_seconds"), "a request, whole"),
                        Query(_mean("modelyard_queue_wait_seconds"), "its wait for a runner"),
                        Query(_mean("modelyard_model_seconds"), "a batch in predict"),
                    ],
                    unit="s",
                    about="What the last two do not explain is the way, and the wait in the "
                    "broker. Requests from the cache are in the first only.",
                ),
                Panel(
                    "Wait for a runner",
                    [
                        Query(_quantile(0.5, "modelyard_queue_wait_seconds"), "half"),
                        Query(_quantile(0.95, "modelyard_queue_wait_seconds"), "95 %"),
                    ],
                    unit="s",
                ),
            ],
        ),
        Row(
            "Capacity",
            [
                Panel(
                    "Runners",
                    [
                        Query(f'max(modelyard_runners{{{_THIS}, state="ready"}})', "ready"),
                        Query(f'max(modelyard_runners{{{_THIS}, state="all"}})', "all"),
                        Query(f"count(modelyard_batch_size_count{{{_THIS}}})", "workers"),
                    ],
                ),
                Panel(
                    "Busy runners",
                    [Query(f"modelyard:runners_busy:ratio5m{{{_THIS}}}", "busy")],
                    unit="percentunit",
                    limit=0.8,
                    about="The share of time inside predict. Above 80 % requests start to wait.",
                ),
                Panel(
                    "Under way",
                    [
                        Query(f"sum(modelyard_in_flight{{{_THIS}}})", "requests"),
                        Query(
                            'sum(modelyard:queue_bundles:ready{queue=~"infer.$model:$version"})',
                            "bundles in the broker",
                        ),
                        Query(
                            "sum(modelyard:queue_bundles:ready"
                            '{queue=~"infer.$model:$version:high"})',
                            "of high priority",
                        ),
                    ],
                ),
            ],
        ),
        Row(
            "Batches",
            [
                Panel(
                    "Instances and batches",
                    [
                        Query(_sum("modelyard_batch_size_sum"), "instances"),
                        Query(_sum("modelyard_batch_size_count"), "batches"),
                    ],
                    unit="ops",
                ),
                Panel(
                    "Instances in a batch",
                    [
                        Query(_mean("modelyard_batch_size"), "mean"),
                        Query(_quantile(0.95, "modelyard_batch_size"), "95 %"),
                    ],
                    about="Grows with the load. At max_batch_size more runners are needed.",
                ),
                Panel(
                    "The cache",
                    [Query(_sum("modelyard_cache_requests_total", by="use"), "{{use}}")],
                    unit="reqps",
                    is_stacked=True,
                ),
            ],
        ),
        Row(
            "Trouble",
            [
                Panel(
                    "Runners that ended unasked",
                    [
                        Query(
                            "sum by (cause) "
                            f"(increase(modelyard_runner_restarts_total{{{_THIS}}}{_RATE}))",
                            "{{cause}}",
                        )
                    ],
                ),
                Panel(
                    "Expired",
                    [Query(_sum("modelyard_expired_total", by="where"), "while {{where}}")],
                    unit="reqps",
                    about="The deadline passed before the answer came, or before it ran at all.",
                ),
                Panel(
                    "Late",
                    [Query(_sum("modelyard_late_replies_total"), "answers")],
                    unit="reqps",
                    about="Answers that came when nobody waited for them any more.",
                ),
            ],
        ),
    ],
)
