# What the steps share. Sourced, not run.
# shellcheck shell=bash disable=SC2034 # the steps use the variables
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
mkdir -p build

cluster=${CLUSTER:-modelyard-e2e}
registry=ghcr.io/modelyard # the charts' default: its images are loaded into the nodes, none is pulled
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' src/modelyard/__init__.py)
next=$version-next
models=(fast_iris_model intermediate_iris_model slow_iris_model)
ours=app.kubernetes.io/part-of=modelyard
# A file of our own: whatever cluster kubectl points at otherwise is left alone.
export KUBECONFIG=$PWD/build/$cluster.kubeconfig

# What a step has patched since the release is set back: Helm 4 refuses that unless it is told.
forced=()
if helm upgrade --help | grep --fixed-strings -- --force-conflicts >/dev/null; then forced=(--force-conflicts); fi

say() {
  printf '\n== %s\n' "$*"
}

k() {
  kubectl --namespace modelyard "$@"
}

# release_of MODEL: what a model's release and objects are called.
release_of() {
  tr '._' '--' <<<"$1"
}

# way ARGUMENTS…: the way of installing that was chosen.
way() {
  case ${1:-} in
    charts | manifests) echo "$1" ;;
    *)
      echo "say how it is installed: charts or manifests" >&2
      exit 2
      ;;
  esac
}

# eventually SECONDS WHAT COMMAND…: tries until the command succeeds.
eventually() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    if [ "$SECONDS" -ge "$end" ]; then
      echo "in vain: $what" >&2
      return 1
    fi
    sleep 2
  done
}

wait_for_rollouts() {
  local deployment
  for deployment in $(k get deployments --selector "$ours" --output name); do
    k rollout status "$deployment" --timeout 10m
  done
}

# The address of the gateways, as the host of the nodes reaches them.
gateway() {
  local node port
  node=$(kubectl get nodes --output jsonpath='{.items[0].status.addresses[?(@.type=="InternalIP")].address}')
  port=$(k get service e2e --output jsonpath='{.spec.ports[0].nodePort}')
  echo "http://$node:$port"
}

# is_right MODEL: whether it tells a setosa from a virginica.
is_right() {
  local body="{\"model_name\":\"$1\",\"input_data\":[[5.1,3.5,1.4,0.2],[6.7,3.0,5.2,2.3]]}"
  curl --silent --header 'content-type: application/json' --data "$body" "$(gateway)/predict" |
    grep --fixed-strings '"prediction":[0,2]'
}

# start_load USERS SECONDS [VARIABLES…]: loads in the background; end_load gives its verdict.
start_load() {
  make load-test HOST="$(gateway)" USERS="$1" SECONDS="$2" "${@:3}" &
  load=$!
}

end_load() {
  wait "$load" || {
    echo "a request failed under load" >&2
    return 1
  }
}

is_loading() {
  kill -0 "$load" 2>/dev/null
}
