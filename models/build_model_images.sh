#!/usr/bin/env bash
# Builds an image for each model in models/, or for those named by --model. --help tells what else can be chosen.
set -euo pipefail

models=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

chosen=() arguments=()
while [ $# -gt 0 ]; do
  case $1 in
    --model)
      [ $# -ge 2 ] || { echo "--model needs a value" >&2; exit 2; }
      [ -f "$models/$2/model.toml" ] || { echo "models/$2/model.toml: there is no such file" >&2; exit 2; }
      chosen+=("$2")
      shift 2
      ;;
    --help | -h)
      echo "--model MODEL, any number of times, builds only these; without it all of them are built."
      exec "$models/../deploy/build_image.sh" --help
      ;;
    --) arguments+=("$@") && break ;;
    *) arguments+=("$1") && shift ;;
  esac
done
if [ ${#chosen[@]} -eq 0 ]; then
  for manifest in "$models"/*/model.toml; do
    chosen+=("$(basename "$(dirname "$manifest")")")
  done
fi

for model in "${chosen[@]}"; do
  "$models/../deploy/build_image.sh" --file models/Dockerfile \
    --name "modelyard-model-${model//[._]/-}" --build-arg "MODEL=$model" ${arguments[@]+"${arguments[@]}"}
done
