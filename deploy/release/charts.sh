#!/usr/bin/env bash
# Packages the charts with the version of the source and the registry of its images, pushes them as OCI
# artefacts, and signs them.
# Usage: charts.sh REGISTRY VERSION
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
registry=${1:?say which registry} version=${2:?say which version}

packages=$(mktemp -d)
trap 'rm -rf "$packages"' EXIT
for chart in deploy/charts/*/Chart.yaml; do
  name=$(basename "$(dirname "$chart")")
  cp -R "$(dirname "$chart")" "$packages/$name"
  # The default that stands in the source is nobody's registry: a release finds the images of its own.
  sed -i "s#^  registry: .*#  registry: $registry#" "$packages/$name/values.yaml"
  helm lint --strict --quiet "$packages/$name"
  helm package "$packages/$name" --version "$version" --app-version "$version" --destination "$packages"
  digest=$(helm push "$packages/$name-$version.tgz" "oci://$registry/charts" 2>&1 | tee /dev/stderr | sed -n 's/^Digest: //p')
  cosign sign --yes "$registry/charts/$name@$digest"
done
