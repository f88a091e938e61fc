#!/usr/bin/env bash
# Builds the image of the gateway. --help tells what can be chosen.
set -euo pipefail

exec "$(dirname "${BASH_SOURCE[0]}")/deploy/build_image.sh" \
  --file app/Dockerfile --name modelyard-gateway "$@"
