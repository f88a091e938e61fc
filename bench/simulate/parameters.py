"""Every number of the simulation that was not measured here, with where it is from."""

from __future__ import annotations

from typing import NamedTuple

from modelyard.core import demand
from modelyard.transports.amqp.announcer import EVERY_S
from modelyard.transports.amqp.lanes import FILL_S, SPARE_S

HPA = "https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/"
METRICS_SERVER = "https://github.com/kubernetes-sigs/metrics-server/blob/master/FAQ.md"
POD_SLO = "https://github.com/kubernetes/community/blob/master/sig-scalability/slos/pod_startup_latency.md"
RABBITMQ = "https://www.rabbitmq.com/docs/management#statistics-interval"
EC2 = "https://aws.amazon.com/ec2/pricing/on-demand/"


class Parameter(NamedTuple):
    """A number, its unit, and where it is from."""

    value: float
    unit: str
    what: str
    source: str


CPU_TARGET = Parameter(0.8, "of the request", "CPU utilisation that the HPA aims at", "the charts")
WORKER_CPU = Parameter(0.1, "cores", "requested beside the runner's", "the charts")
QUEUE_TARGET = Parameter(
    1.0, "messages per pod", "what KEDA aims at if it counts delivered messages too", "the charts"
)
READY_TARGET = Parameter(
    2.0, "messages per pod", "what KEDA aims at if it counts ready ones only", "chosen"
)
COUNTED = Parameter(
    demand.COUNTED_REQUESTS,
    "requests' time",
    "over which a gateway counts what is asked for,",
    "`core/demand.py`",
)
SHORTEST_S = Parameter(demand.SHORTEST_S, "s", "at least, which is what the HPA waits,", HPA)
LONGEST_S = Parameter(demand.LONGEST_S, "s", "and at most", "`core/demand.py`")
STANDING_S = Parameter(
    demand.STANDING_S, "s", "of which the least number in flight counts", "`core/demand.py`"
)
WAIT_SHARE = Parameter(
    demand.WAIT_SHARE,
    "of `timeout_s`",
    "`target_wait_s`, in which a backlog should be gone",
    "`core/demand.py`",
)
SPARE_ROOT = Parameter(1.1, "√demand runners", "spare, for chance", "the charts")
SPARE = Parameter(1.25, "runners", "spare beside that", "the charts")
SPARE_SHARE = Parameter(2.0, "of the demand", "most of what is spare beside that", "the charts")
PACE_S = Parameter(EVERY_S, "s", "between two statuses, which tell the pace", "`announcer.py`")
MIN_PODS = Parameter(2, "pods", "minReplicas", "the charts")
SYNC_S = Parameter(15, "s", "between two decisions of the HPA", HPA)
TOLERANCE = Parameter(0.1, "", "ratio to the target that changes nothing", HPA)
UP_PODS = Parameter(4, "pods per 15 s", "scale-up policy, or the next, whichever is more", HPA)
UP_SHARE = Parameter(1.0, "of the pods per 15 s", "scale-up policy", HPA)
DOWN_WINDOW_S = Parameter(300, "s", "stabilisation window of scaling down", "the charts")
DOWN_SHARE = Parameter(0.5, "of the pods per 60 s", "scale-down policy", "the charts")
CPU_SCRAPE_S = Parameter(15, "s", "between two samples of CPU, which are averages", METRICS_SERVER)
QUEUE_SAMPLE_S = Parameter(5, "s", "age that RabbitMQ's statistics can have", RABBITMQ)
POD_S = Parameter(5, "s", "from decision to running container, image on the node", POD_SLO)
MAX_PODS = Parameter(40, "pods", "maxReplicas", "chosen")
GATEWAYS = Parameter(2, "gateways", "in front, taking turns", "chosen")
ROWS = Parameter(10, "rows", "in each request", "the load test")
BUNDLE_FILL_S = Parameter(FILL_S, "s", "that a bundle waits at most to fill", "`lanes.py`")
BUNDLE_SPARE_S = Parameter(SPARE_S, "s", "the same while a runner may be free", "`lanes.py`")
ANNOUNCE_S = Parameter(EVERY_S, "s", "between two announcements of a worker", "`announcer.py`")
CORE_HOUR_USD = Parameter(
    0.0408, "USD per core-hour", "m7g.large in us-east-1 on demand, June 2026: 0.0816 for 2", EC2
)
HEADROOM = Parameter(0.6, "of a core", "to plan gateways, brokers and workers with", "chosen")
NODE_CONNECTIONS = Parameter(10_000, "connections", "of one broker node at most", "chosen")
BROKER_CORES = Parameter(16, "cores", "of one broker node", "chosen")

TABLE = {name: value for name, value in list(globals().items()) if isinstance(value, Parameter)}
