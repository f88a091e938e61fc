#!/usr/bin/env bash
# Makes a kind cluster for the other steps, and points none but them at it. Usage: cluster.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

say "A cluster: $cluster"
kind create cluster --name "$cluster" --config deploy/e2e/kind.yaml --wait 3m
