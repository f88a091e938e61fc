#!/usr/bin/env bash
# Asks each model from outside, and by `helm test` from within. Usage: predict.sh charts|manifests
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
way=$(way "$@")

say "Predictions"
for model in "${models[@]}"; do
  eventually 60 "a right answer of $model" is_right "$model"
done
if [ "$way" = charts ]; then
  for release in modelyard $(for model in "${models[@]}"; do release_of "$model"; done); do
    helm test "$release" --namespace modelyard --logs --timeout 3m
  done
fi
