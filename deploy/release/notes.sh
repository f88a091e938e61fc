#!/usr/bin/env bash
# Prints what CHANGELOG.md says of a version. Fails if that is nothing, or if the source is another version.
# Usage: notes.sh VERSION
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
version=${1:?say which version}

source=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' src/modelyard/__init__.py)
if [ "$source" != "$version" ]; then
  echo "src/modelyard/__init__.py says $source, not $version" >&2
  exit 1
fi
notes=$(awk -v head="## [$version]" '
  index($0, "## [") == 1 { is_in = index($0, head) == 1; next }
  is_in
' CHANGELOG.md)
if [ -z "${notes//[[:space:]]/}" ]; then
  echo "CHANGELOG.md has no section [$version]" >&2
  exit 1
fi
printf '%s\n' "$notes"
