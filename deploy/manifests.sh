#!/usr/bin/env bash
# Renders the charts into plain files for `kubectl apply -f`. Into the repository, or into another FOLDER.
# Usage: deploy/manifests.sh [FOLDER]
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=${1:-.}
helm=${HELM:-helm}

# render FILE RELEASE CHART ARGUMENTS…
render() {
  local file=$target/$1 release=$2 chart=$3
  echo "$file"
  shift 3
  mkdir -p "$(dirname "$file")"
  {
    echo "# Rendered from deploy/charts/$chart by \`make manifests\`: change that, and not this."
    "$helm" template "$release" "deploy/charts/$chart" --namespace modelyard --kube-version 1.30.0 \
      --values "deploy/manifests/$chart.yaml" "$@"
  } >"$file"
}

render k8s-config/rabbitmq.yaml modelyard modelyard --show-only 'templates/rabbitmq/*'
render k8s-config/redis.yaml modelyard modelyard --show-only 'templates/redis/*'
render k8s-config/monitoring/monitors.yaml modelyard modelyard --show-only 'templates/monitoring/*'
render app/k8s/deployment.yaml modelyard modelyard --show-only 'templates/gateway/*'
for manifest in models/*/model.toml; do
  folder=$(dirname "$manifest")
  name=$(basename "$folder")
  render "$folder/k8s/deployment.yaml" "${name//[._]/-}" modelyard-model \
    --set-file "model=$manifest" --show-only 'templates/*.yaml'
done
