#!/usr/bin/env bash
# Builds one image, and pushes it if asked. build_app_images.sh and models/build_model_images.sh call it.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: SCRIPT [--registry REGISTRY] [--tag TAG] [--builder BUILDER] [--platform PLATFORMS]
              [--base IMAGE] [--push] [--dry-run] [-- ARGUMENTS…]

  --registry   where the image belongs, for example ghcr.io/acme (localhost)
  --tag        its tag (the version of the source)
  --builder    docker, podman or buildah (the first that is installed)
  --platform   for example linux/amd64,linux/arm64 (this machine's); several with docker need --push
  --base       an image with Python, instead of the one that the Dockerfile names
  --push       push it when it is built
  --dry-run    only say what would be run
  ARGUMENTS    are handed to the builder
TEXT
}

fail() {
  echo "$1" >&2
  exit 2
}

registry=localhost tag='' builder='' platform='' base='' push=false dry_run=false
file='' name='' arguments=()
while [ $# -gt 0 ]; do
  case $1 in
    --registry | --tag | --builder | --platform | --base | --file | --name | --build-arg)
      [ $# -ge 2 ] || fail "$1 needs a value"
      case $1 in
        --registry) registry=$2 ;;
        --tag) tag=$2 ;;
        --builder) builder=$2 ;;
        --platform) platform=$2 ;;
        --base) base=$2 ;;
        --file) file=$2 ;;
        --name) name=$2 ;;
        --build-arg) arguments+=(--build-arg "$2") ;;
      esac
      shift 2
      ;;
    --push) push=true && shift ;;
    --dry-run) dry_run=true && shift ;;
    --help | -h) usage && exit 0 ;;
    --) shift && break ;;
    *) usage >&2 && fail "unknown argument: $1" ;;
  esac
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' src/modelyard/__init__.py)
image=$registry/$name:${tag:-$version}
if [ -z "$builder" ]; then
  for builder in docker podman buildah none; do
    if command -v "$builder" >/dev/null; then break; fi
  done
fi

# The time of the commit stands in the image, not that of the build: the same source gives the same image.
epoch=$(git log -1 --format=%ct 2>/dev/null || echo 0)
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$epoch}
revision=$(git describe --always --abbrev=40 --dirty --exclude '*' 2>/dev/null || echo unknown)
source=$(git config --get remote.origin.url 2>/dev/null | sed -e 's#^git@\([^:]*\):#https://\1/#' -e 's#//[^/@]*@#//#' || true)

arguments+=(
  --file "$file"
  --build-arg "CREATED=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ 2>/dev/null || date -u -r "$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)"
  --build-arg "REVISION=$revision"
  --build-arg "SOURCE=$source"
  --build-arg "VERSION=${tag:-$version}"
)
if [ -n "$base" ]; then arguments+=(--build-arg "PYTHON_IMAGE=$base"); fi
if [ -n "$platform" ]; then arguments+=(--platform "$platform"); fi

run() {
  printf '+'
  printf ' %q' "$@"
  printf '\n'
  $dry_run || "$@"
}

case $builder in
  docker)
    if $push; then
      arguments+=(--output 'type=image,push=true,rewrite-timestamp=true')
    else
      case $platform in *,*) fail "docker keeps one platform at a time: add --push, or name one --platform" ;; esac
      arguments+=(--load)
    fi
    run docker buildx build "${arguments[@]}" --tag "$image" "$@" .
    ;;
  podman | buildah)
    # docker's format: the other one has no place for a health check.
    # Layers that are kept: without, buildah builds everything again when the code changes.
    arguments+=(--format docker --layers --timestamp "$SOURCE_DATE_EPOCH")
    case $platform in
      *,*)
        # An image that is there already would be added to, and not replaced.
        if "$builder" manifest exists "$image" 2>/dev/null; then run "$builder" manifest rm "$image"; fi
        run "$builder" build "${arguments[@]}" --manifest "$image" "$@" .
        if $push; then run "$builder" manifest push --all "$image" "docker://$image"; fi
        ;;
      *)
        run "$builder" build "${arguments[@]}" --tag "$image" "$@" .
        if $push; then run "$builder" push "$image"; fi
        ;;
    esac
    ;;
  none) fail "an image needs docker, podman or buildah, and none of them is installed" ;;
  *) fail "unknown builder: $builder; docker, podman and buildah are known" ;;
esac
