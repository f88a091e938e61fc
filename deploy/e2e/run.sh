#!/usr/bin/env bash
# All steps from an empty cluster to its removal. Needs docker, kind, kubectl, helm, and an hour and a half.
# Usage: run.sh charts|manifests
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
way=$(way "$@")

trap 'deploy/e2e/collect.sh' ERR
deploy/e2e/cluster.sh
deploy/e2e/images.sh
deploy/e2e/install.sh "$way"
deploy/e2e/predict.sh "$way"
deploy/e2e/kill.sh
deploy/e2e/scale.sh
if [ "$way" = charts ]; then # the plain files are for three brokers, and without KEDA
  deploy/e2e/outage.sh
  deploy/e2e/demand.sh
  deploy/e2e/beside.sh
  deploy/e2e/fail.sh
fi
deploy/e2e/upgrade.sh "$way"
deploy/e2e/predict.sh "$way"
deploy/e2e/remove.sh "$way"
