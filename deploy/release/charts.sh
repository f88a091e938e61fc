#!/usr/bin/env bash
# Packages the charts with the version of the source, pushes them as OCI artefacts, and signs them.
# Usage: charts.sh REGISTRY VERSION
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
registry=${1:?say which registry} version=${2:?say which version}

packages=$(mktemp -d)
trap 'rm -rf "$packages"' EXIT
for chart in deploy/charts/*/Chart.yaml; do
  name=$(basename "$(dirname "$chart")")
  helm package "$(dirname "$chart")" --version "$version" --app-version "$version" --destination "$packages"
  digest=$(helm push "$packages/$name-$version.tgz" "oci://$registry/charts" 2>&1 | tee /dev/stderr | sed -n 's/^Digest: //p')
  cosign sign --yes "$registry/charts/$name@$digest"
done
