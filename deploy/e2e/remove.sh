#!/usr/bin/env bash
# Removes models and platform, and sees that nothing of them stays; then the cluster.
# Usage: remove.sh charts|manifests
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
way=$(way "$@")

say "Removing it"
kubectl delete -f deploy/e2e/nodeport.yaml
if [ "$way" = charts ]; then
  for model in "${models[@]}"; do helm uninstall "$(release_of "$model")" --namespace modelyard --wait; done
  helm uninstall modelyard --namespace modelyard --wait
else
  for model in "${models[@]}"; do kubectl delete -f "models/$model/k8s/deployment.yaml"; done
  kubectl delete -f app/k8s/deployment.yaml -f k8s-config/redis.yaml -f k8s-config/rabbitmq.yaml
fi
is_gone() { [ -z "$(k get pods --output name)" ]; }
eventually 300 "no pod any more" is_gone
kind delete cluster --name "$cluster"
