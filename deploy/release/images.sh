#!/usr/bin/env bash
# Builds and pushes all images for two architectures, with SBOM and provenance, and signs them.
# Usage: images.sh REGISTRY TAG
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
registry=${1:?say which registry} tag=${2:?say which tag}

to=(--registry "$registry" --tag "$tag" --builder docker --platform 'linux/amd64,linux/arm64' --push)

publish() {
  "$@" "${to[@]}" -- --sbom=true --provenance=mode=max
  # What it has pushed: the names are told by the commands that it would run.
  "$@" "${to[@]}" --dry-run | sed -n 's/^+ .* --tag \([^ ]*\) .*/\1/p' | while read -r image; do
    digest=$(docker buildx imagetools inspect "$image" --format '{{.Manifest.Digest}}')
    cosign sign --yes "${image%:*}@$digest" </dev/null
    echo "$image@$digest"
  done
}

publish ./build_app_images.sh
for lock in requirements/runtimes/*.txt; do
  publish ./build_app_images.sh --runtime "$(basename "$lock" .txt)"
done
publish ./models/build_model_images.sh
