#!/usr/bin/env bash
# Kills workers under load, one after another: no request may fail. Usage: kill.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

say "Two workers of each model"
for model in "${models[@]}"; do
  k patch hpa "$(release_of "$model")" --patch '{"spec":{"minReplicas":2}}'
done
has_two() {
  local ready
  ready=$(k get deployment "$1" --output jsonpath='{.status.readyReplicas}')
  [ "${ready:-0}" -ge 2 ]
}
for model in "${models[@]}"; do
  eventually 300 "two workers of $model" has_two "$(release_of "$model")"
done

say "Killing workers under load"
start_load 6 120
killed=0
while is_loading; do
  sleep 15
  model=${models[killed % ${#models[@]}]}
  has_two "$(release_of "$model")" || continue # the last one is not killed
  worker=$(k get pods --selector "$ours,app.kubernetes.io/component=worker,app.kubernetes.io/instance=$(release_of "$model")" \
    --output name | shuf -n 1)
  k delete "$worker" --grace-period 0 --force 2>/dev/null
  killed=$((killed + 1))
done
end_load
echo "killed: $killed"
[ "$killed" -ge 3 ]
