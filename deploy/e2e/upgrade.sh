#!/usr/bin/env bash
# Upgrades everything under load, then rolls it back: no request may fail. Usage: upgrade.sh charts|manifests
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
way=$(way "$@")

releases=(modelyard)
for model in "${models[@]}"; do releases+=("$(release_of "$model")"); done

# upgrade_release RELEASE CHART FLAGS…
upgrade_release() {
  helm upgrade "$1" "deploy/charts/$2" --namespace modelyard --reset-then-reuse-values \
    --set-string "image.tag=$next" --wait --timeout 10m "${forced[@]}" "${@:3}"
}

upgrade() {
  local model deployment image
  if [ "$way" = charts ]; then
    upgrade_release modelyard modelyard
    for model in "${models[@]}"; do
      upgrade_release "$(release_of "$model")" modelyard-model --set-file "model=models/$model/model.toml"
    done
  else
    for deployment in $(changing); do
      image=$(k get "$deployment" --output jsonpath='{.spec.template.spec.containers[0].image}')
      k set image "$deployment" "*=${image%:*}:$next"
    done
    wait_for_rollouts
  fi
}

roll_back() {
  local release deployment
  if [ "$way" = charts ]; then
    for release in "${releases[@]}"; do
      helm rollback "$release" --namespace modelyard --wait --timeout 10m "${forced[@]}"
    done
  else
    for deployment in $(changing); do k rollout undo "$deployment"; done
    wait_for_rollouts
  fi
}

changing() {
  k get deployments --selector "$ours,app.kubernetes.io/component in (gateway,worker)" --output name
}

# runs TAG: whether all of it runs images with that tag.
runs() {
  local image images
  images=$(k get pods --selector "$ours,app.kubernetes.io/component in (gateway,worker)" \
    --field-selector status.phase=Running --output jsonpath='{.items[*].spec.containers[0].image}')
  [ -n "$images" ] || return 1
  for image in $images; do
    [ "${image##*:}" = "$1" ] || return 1
  done
}

say "Upgrade to $next, and back to $version, under load"
start_load 6 600
upgrade
eventually 120 "$next everywhere" runs "$next"
roll_back
eventually 120 "$version everywhere" runs "$version"
is_loading || {
  echo "the load ended before the rollback was over: nothing was shown of the rest" >&2
  exit 1
}
end_load
