#!/usr/bin/env bash
# Asks each model from outside, and by `helm test` from within. Usage: predict.sh charts|manifests
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
way=$(way "$@")

# is_right MODEL: whether it tells a setosa from a virginica.
is_right() {
  local body="{\"model_name\":\"$1\",\"input_data\":[[5.1,3.5,1.4,0.2],[6.7,3.0,5.2,2.3]]}"
  curl --silent --header 'content-type: application/json' --data "$body" "$(gateway)/predict" |
    grep --fixed-strings '"prediction":[0,2]'
}

say "Predictions"
for model in "${models[@]}"; do
  eventually 60 "a right answer of $model" is_right "$model"
done
if [ "$way" = charts ]; then
  for release in modelyard $(for model in "${models[@]}"; do release_of "$model"; done); do
    helm test "$release" --namespace modelyard --logs --timeout 3m
  done
fi
