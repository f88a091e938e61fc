#!/usr/bin/env bash
# Collects what helps to understand a failure in build/e2e-logs. Usage: collect.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

say "What was there"
kubectl get pods --all-namespaces --output wide || true
k get hpa,rabbitmqclusters || true
k get events --sort-by .lastTimestamp | tail -n 50 || true
kind export logs --name "$cluster" build/e2e-logs || true
