#!/usr/bin/env bash
# Builds all images, each with a second tag to upgrade to, and of the fast model a second version and one that
# does not load; and loads them into the cluster. Usage: images.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

say "Images $version"
for tag in "$version" "$next"; do # the second time from the builder's cache
  ./build_app_images.sh --registry "$registry" --tag "$tag" --builder docker
  ./models/build_model_images.sh --registry "$registry" --tag "$tag" --builder docker
done
# derive TAG COMMAND: the fast model's image with a change to the model's folder.
derive() {
  docker build --tag "$registry/modelyard-model-fast-iris-model:$1" - <<TEXT
FROM $registry/modelyard-model-fast-iris-model:$version
USER 0
RUN cd /opt/model && $2
USER 10001:10001
TEXT
}
derive "$version-2" "sed -i 's/^version = .*/version = \"2\"/' model.toml"
derive "$version-broken" "echo broken >assets/iris.onnx"
mapfile -t images < <(docker image ls --format '{{.Repository}}:{{.Tag}}' "$registry/*" | grep -E ":$version(|-next|-2|-broken)$")
kind load docker-image --name "$cluster" "${images[@]}"
