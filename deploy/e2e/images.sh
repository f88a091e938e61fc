#!/usr/bin/env bash
# Builds all images, each with a second tag to upgrade to, and loads them into the cluster. Usage: images.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

say "Images $version"
for tag in "$version" "$next"; do # the second time from the builder's cache
  ./build_app_images.sh --registry "$registry" --tag "$tag" --builder docker
  ./models/build_model_images.sh --registry "$registry" --tag "$tag" --builder docker
done
mapfile -t images < <(docker image ls --format '{{.Repository}}:{{.Tag}}' "$registry/*" | grep -E ":($version|$next)$")
kind load docker-image --name "$cluster" "${images[@]}"
