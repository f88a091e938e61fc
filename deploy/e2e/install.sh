#!/usr/bin/env bash
# Installs operators, platform and the three models. Usage: install.sh charts|manifests
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
way=$(way "$@")

say "What it stands on"
deploy/install.sh --kind --keda --timeout 600

say "The platform and the models, by $way"
if [ "$way" = charts ]; then
  helm upgrade --install modelyard deploy/charts/modelyard --namespace modelyard \
    --values deploy/charts/modelyard/ci/kind-values.yaml --set redis.existingSecret=modelyard-redis \
    --wait --timeout 15m
  for model in "${models[@]}"; do
    helm upgrade --install "$(release_of "$model")" deploy/charts/modelyard-model --namespace modelyard \
      --values deploy/charts/modelyard-model/ci/kind-values.yaml \
      --set-file "model=models/$model/model.toml" --wait --timeout 10m
  done
else
  kubectl apply --server-side -f k8s-config/rabbitmq.yaml -f k8s-config/redis.yaml -f app/k8s/deployment.yaml
  for model in "${models[@]}"; do
    kubectl apply --server-side -f "models/$model/k8s/deployment.yaml"
  done
fi
kubectl apply -f deploy/e2e/nodeport.yaml
wait_for_rollouts
eventually 120 "a gateway that is ready" curl --silent --fail --output /dev/null "$(gateway)/readyz"
