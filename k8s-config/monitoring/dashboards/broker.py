"""For whoever keeps the broker: does it take and deliver, and has it room?"""

from __future__ import annotations

from layout import Dashboard, Panel, Query, Row

_NODE = "{{pod}} {{instance}}"


def _all(metric: str) -> str:
    return f"sum(rate(rabbitmq_global_{metric}[$__rate_interval]))"


BROKER = Dashboard(
    uid="modelyard-broker",
    title="Modelyard: broker",
    about="RabbitMQ as Modelyard uses it.",
    rows=[
        Row(
            "Now",
            [
                Panel(
                    "Nodes",
                    [Query("count(max by (rabbitmq_node) (rabbitmq_identity_info))", "")],
                    kind="stat",
                ),
                Panel(
                    "Alarms",
                    [
                        Query(
                            "sum(rabbitmq_alarms_memory_used_watermark)"
                            " + sum(rabbitmq_alarms_free_disk_space_watermark)",
                            "",
                        )
                    ],
                    kind="stat",
                    limit=1,
                    about="While there is one the broker takes no requests.",
                ),
                Panel(
                    "Bundles that wait",
                    [Query("sum(modelyard:queue_bundles:ready)", "")],
                    kind="stat",
                ),
                Panel("Connections", [Query("sum(rabbitmq_connections)", "")], kind="stat"),
            ],
        ),
        Row(
            "The models' queues",
            [
                Panel(
                    "Waiting",
                    [Query("modelyard:queue_bundles:ready", "{{queue}}")],
                    about="Bundles of requests. A queue that stays long needs more workers.",
                ),
                Panel(
                    "With the workers",
                    [
                        Query(
                            "max by (queue) "
                            '(rabbitmq_detailed_queue_messages_unacked{queue=~"infer[.].+"})',
                            "{{queue}}",
                        )
                    ],
                    about="Bundles delivered and not yet answered.",
                ),
                Panel(
                    "Workers",
                    [
                        Query(
                            "max by (queue) "
                            '(rabbitmq_detailed_queue_consumers{queue=~"infer[.].+"})',
                            "{{queue}}",
                        )
                    ],
                    about="Consumers of the queue: one for each worker.",
                ),
            ],
        ),
        Row(
            "Messages",
            [
                Panel(
                    "Flow",
                    [
                        Query(_all("messages_received_total"), "received"),
                        Query(_all("messages_confirmed_total"), "confirmed"),
                        Query(_all("messages_delivered_total"), "delivered"),
                        Query(_all("messages_acknowledged_total"), "acknowledged"),
                    ],
                    unit="mps",
                    about="Requests, replies and announcements. Replies are not acknowledged.",
                ),
                Panel(
                    "Out of the ordinary",
                    [
                        Query(_all("messages_redelivered_total"), "redelivered"),
                        Query(_all("messages_unroutable_returned_total"), "returned"),
                        Query(_all("messages_unroutable_dropped_total"), "dropped"),
                    ],
                    unit="mps",
                    about="Redelivered: a worker was lost. Returned: no worker has ever been up.",
                ),
                Panel(
                    "What gateways and workers saw",
                    [
                        Query(
                            "sum by (event) "
                            "(rate(modelyard_broker_events_total[$__rate_interval]))",
                            "{{event}}",
                        )
                    ],
                    unit="ops",
                    about="resent: the connection was lost. publish_timeout: the broker is "
                    "blocked. late, orphan: replies for nobody.",
                ),
            ],
        ),
        Row(
            "Room",
            [
                Panel(
                    "Memory, of what it may take",
                    [
                        Query(
                            "rabbitmq_process_resident_memory_bytes"
                            " / rabbitmq_resident_memory_limit_bytes",
                            _NODE,
                        )
                    ],
                    unit="percentunit",
                    limit=1,
                ),
                Panel(
                    "Disk, over what it needs",
                    [
                        Query(
                            "rabbitmq_disk_space_available_bytes"
                            " - rabbitmq_disk_space_available_limit_bytes",
                            _NODE,
                        )
                    ],
                    unit="bytes",
                ),
                Panel(
                    "Connections",
                    [
                        Query("rabbitmq_connections", "connections " + _NODE),
                        Query("rabbitmq_channels", "channels " + _NODE),
                    ],
                ),
            ],
        ),
    ],
)
