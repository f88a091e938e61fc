#!/usr/bin/env bash
# Releases that fail say why, and disturb nobody: an image whose model does not load, and one that is another
# version than the release. Usage: fail.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# newest_pod RELEASE: as docs/kubernetes.md finds it.
newest_pod() {
  k get pods --output name --sort-by .metadata.creationTimestamp \
    --selector "app.kubernetes.io/component=worker,app.kubernetes.io/instance=$1" | tail -n 1
}
# says RELEASE TEXT: whether the newest pod's description has a text.
says() {
  k describe "$(newest_pod "$1")" | grep --fixed-strings -- "$2"
}
is_listed() {
  curl --silent --fail "$(gateway)/models" | grep --fixed-strings "${1#pod/}"
}

say "A model that does not load"
helm upgrade fast-iris-model deploy/charts/modelyard-model --namespace modelyard --reset-then-reuse-values \
  --set-file model=models/fast_iris_model/model.toml --set-string "image.tag=$version-broken" "${forced[@]}"
eventually 300 "a pod that says why it ended" says fast-iris-model iris.onnx
says fast-iris-model 'Exit Code:    1'
eventually 120 "a gateway that lists it" is_listed "$(newest_pod fast-iris-model)"
is_right fast_iris_model
helm rollback fast-iris-model --namespace modelyard --wait --timeout 10m "${forced[@]}"

say "An image of another version than the release"
sed 's/^version = "1"$/version = "3"/' models/fast_iris_model/model.toml >build/version-3.toml
helm install fast-iris-model-3 deploy/charts/modelyard-model --namespace modelyard \
  --values deploy/charts/modelyard-model/ci/kind-values.yaml --set-file model=build/version-3.toml
eventually 300 "a pod that says what it should be" says fast-iris-model-3 fast_iris_model/3
says fast-iris-model-3 'Exit Code:    2'
helm uninstall fast-iris-model-3 --namespace modelyard --wait
is_right fast_iris_model
