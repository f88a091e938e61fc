#!/usr/bin/env bash
# Builds the image of the gateway, or with --runtime NAME the one that serves models without code.
# --help tells what else can be chosen.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
runtimes=$(cd requirements/runtimes && echo *.txt | sed 's/\.txt//g')
name=modelyard-gateway arguments=()
if [ "${1:-}" = --runtime ]; then
  if [ ! -f "requirements/runtimes/${2:-}.txt" ]; then
    echo "--runtime: one of $runtimes" >&2
    exit 2
  fi
  name=modelyard-runtime-$2
  arguments=(--build-arg "RUNTIME=$2" --build-arg "TITLE=$name")
  shift 2
fi
exec deploy/build_image.sh --file app/Dockerfile --name "$name" "${arguments[@]}" "$@"
