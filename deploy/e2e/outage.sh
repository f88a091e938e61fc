#!/usr/bin/env bash
# Stops the only broker for a minute under fresh and kept connections: none is refused, and what is cached is
# answered. Usage: outage.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

say "A minute without a broker"
[ "$(k get rabbitmqcluster modelyard-rabbitmq --output jsonpath='{.spec.replicas}')" = 1 ]
broker="kubectl --namespace modelyard exec modelyard-rabbitmq-server-0 --container rabbitmq -- rabbitmqctl"
is_back="kubectl --namespace modelyard wait pod modelyard-rabbitmq-server-0 --for condition=Ready --timeout 60s"
python3 deploy/e2e/outage.py "$(gateway)" --away 60 --stop "$broker stop_app" --start "$broker start_app && $is_back"
