#!/usr/bin/env bash
# Scales the slow model by demand, with KEDA: up under load, down to none after it, and up again by one request.
# Usage: demand.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

release=$(release_of slow_iris_model)
may_sleep=build/may-sleep.toml
{ cat models/slow_iris_model/model.toml && printf '\n[scaling]\nscale_to_zero = true\n'; } >$may_sleep

# scale_by SIGNAL MODEL FLAGS…
scale_by() {
  helm upgrade "$release" deploy/charts/modelyard-model --namespace modelyard --reset-then-reuse-values \
    --set-file "model=$2" --set "autoscaling.by=$1" "${@:3}" --wait --timeout 10m "${forced[@]}"
}
replicas() {
  k get deployment "$release" --output jsonpath='{.spec.replicas}'
}
is_more() { [ "$(replicas)" -gt 1 ]; }
is_none() { [ "$(replicas)" = 0 ]; }

say "Scaled by demand"
scale_by demand $may_sleep --set autoscaling.scaleDownSeconds=15,autoscaling.demand.cooldownSeconds=15
k wait "scaledobject/$release" --for condition=Ready --timeout 2m
start_load 6 240 STEPS=1
eventually 200 "more than one worker" is_more
end_load
eventually 600 "no worker" is_none
eventually 180 "an answer of a model that slept" is_right slow_iris_model

say "And by CPU again"
scale_by cpu models/slow_iris_model/model.toml
