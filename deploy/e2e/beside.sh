#!/usr/bin/env bash
# Installs a version beside the old one under load, asks both, and removes it again. Usage: beside.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

new=build/version-2.toml
sed 's/^version = "1"$/version = "2"/' models/fast_iris_model/model.toml >$new

# is_answered_by VERSION ASKED: whether that version answers; ASKED is what the request says of versions, or nothing.
is_answered_by() {
  local body="{\"model_name\":\"fast_iris_model\",\"input_data\":[[5.1,3.5,1.4,0.2]]$2}"
  curl --silent --header 'content-type: application/json' --data "$body" "$(gateway)/predict" |
    grep --fixed-strings "\"model_version\":\"$1\""
}

say "Version 2 beside version 1"
start_load 6 120
helm install fast-iris-model-2 deploy/charts/modelyard-model --namespace modelyard \
  --values deploy/charts/modelyard-model/ci/kind-values.yaml --set-file "model=$new" \
  --set-string "image.tag=$version-2" --wait --timeout 10m
eventually 60 "version 2 for whoever names none" is_answered_by 2 ''
is_answered_by 1 ',"model_version":"1"'
is_answered_by 2 ',"model_version":"2"'
helm uninstall fast-iris-model-2 --namespace modelyard --wait
eventually 60 "version 1 for whoever names none" is_answered_by 1 ''
end_load
