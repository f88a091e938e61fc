#!/usr/bin/env bash
# Watches the autoscaler of the slow model go up under load, and down after it. Usage: scale.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

hpa=$(release_of slow_iris_model)
replicas() {
  k get hpa "$hpa" --output jsonpath='{.status.currentReplicas}'
}
is_more() { [[ $(replicas) -gt 1 ]]; }
is_one() { [ "$(replicas)" = 1 ]; }

say "One worker, and an autoscaler that does not wait long"
k patch hpa "$hpa" --patch '{"spec": {"minReplicas": 1, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 15}}}}'
eventually 600 "one worker of the slow model" is_one

say "Up under load, and down again"
start_load 6 300 STEPS=1
eventually 240 "more than one worker" is_more
k get hpa "$hpa"
end_load
eventually 600 "one worker again" is_one
k get hpa "$hpa"
k describe hpa "$hpa" | sed -n '/^Events/,$p'
