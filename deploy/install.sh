#!/usr/bin/env bash
# Prepares a cluster for Modelyard: the operators, the metrics server, the namespace and the Redis secret.
# Can be run again at any time: it changes only what is not as it should be. What somebody else has
# installed is used and left alone.
set -euo pipefail

# Releases that these files are written for. Raising one is a change of this line.
CERT_MANAGER=v1.21.1        # certificates for the operators' webhooks
CLUSTER_OPERATOR=v2.22.3    # RabbitmqCluster
TOPOLOGY_OPERATOR=v1.20.1   # User, Permission, Policy, Queue
KEDA=v2.20.2                # ScaledObject; its own files name the version without the v
# The metrics server's is in k8s-config/metrics-server/kustomization.yaml.

usage() {
  cat <<'TEXT'
Usage: deploy/install.sh [--kind] [--keda] [--namespace NAME] [--timeout SECONDS] [--dry-run]

  --kind       the cluster is kind's: its nodes' certificates are not checked by the metrics server
  --keda       KEDA as well, to scale by the length of queues
  --namespace  where Modelyard will be (modelyard)
  --timeout    how long each part may take to be ready (300)
  --dry-run    say what would be done, and do nothing
TEXT
}

overlay=k8s-config/metrics-server keda=false namespace=modelyard timeout=300 dry_run=false
while [ $# -gt 0 ]; do
  case $1 in
    --kind) overlay=k8s-config/metrics-server/kind ;;
    --keda) keda=true ;;
    --namespace | --timeout)
      [ $# -ge 2 ] || { echo "$1 needs a value" >&2; exit 2; }
      printf -v "${1#--}" %s "$2"
      shift
      ;;
    --dry-run) dry_run=true ;;
    --help | -h) usage && exit 0 ;;
    *) usage >&2 && echo "unknown argument: $1" >&2 && exit 2 ;;
  esac
  shift
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."

manager=modelyard-install
ours=(--server-side --force-conflicts "--field-manager=$manager")

step() {
  printf '\n== %s\n' "$1"
}

kube() {
  printf '+ kubectl %s\n' "$*"
  if ! $dry_run; then kubectl "$@"; fi
}

# A webhook that has just started refuses what it should check: try again for a while.
apply() {
  local try
  for try in 1 2 3 4 5 6; do
    if kube apply "${ours[@]}" "$@"; then return; fi
    echo "not yet ($try of 6)" >&2
    sleep "${RETRY_S:-10}"
  done
  echo "gave up: kubectl apply $*" >&2
  exit 1
}

# ensure WHAT PROOF NAMESPACE ARGUMENTS…: applies, unless PROOF (KIND/NAME) is there and is not from
# here; then waits for all that runs in NAMESPACE.
ensure() {
  local what=$1 proof=$2 where=$3 found
  shift 3
  step "$what"
  if ! $dry_run && found=$(kubectl get "$proof" --output json --show-managed-fields --ignore-not-found) &&
    [ -n "$found" ] && ! grep -q "\"manager\": *\"$manager\"" <<<"$found"; then
    echo "$proof is there, and not from here: left alone"
    return
  fi
  apply "$@"
  kube --namespace "$where" wait deployment --all --for=condition=Available "--timeout=${timeout}s"
}

if ! $dry_run; then
  command -v kubectl >/dev/null || { echo "kubectl is not installed" >&2; exit 2; }
  echo "Cluster: $(kubectl config current-context)"
fi

releases=https://github.com
ensure "cert-manager $CERT_MANAGER" crd/certificates.cert-manager.io cert-manager \
  --filename "$releases/cert-manager/cert-manager/releases/download/$CERT_MANAGER/cert-manager.yaml"

ensure "RabbitMQ Cluster Operator $CLUSTER_OPERATOR" crd/rabbitmqclusters.rabbitmq.com rabbitmq-system \
  --filename "$releases/rabbitmq/cluster-operator/releases/download/$CLUSTER_OPERATOR/cluster-operator.yml"

ensure "RabbitMQ Messaging Topology Operator $TOPOLOGY_OPERATOR" crd/users.rabbitmq.com rabbitmq-system \
  --filename "$releases/rabbitmq/messaging-topology-operator/releases/download/$TOPOLOGY_OPERATOR/messaging-topology-operator-with-certmanager.yaml"

ensure "Metrics server" apiservice/v1beta1.metrics.k8s.io kube-system --kustomize "$overlay"

if $keda; then
  ensure "KEDA $KEDA" crd/scaledobjects.keda.sh keda \
    --filename "$releases/kedacore/keda/releases/download/$KEDA/keda-${KEDA#v}.yaml"
fi

step "Namespace $namespace, which enforces the Pod Security Standard \"restricted\""
if $dry_run; then
  echo "+ kubectl apply, k8s-config/namespace.yaml with the name $namespace"
else
  sed "s/^  name: modelyard$/  name: $namespace/" k8s-config/namespace.yaml |
    kubectl apply "${ours[@]}" --filename -
fi

step "A password for Redis, unless there is one"
if $dry_run; then
  echo "+ kubectl create secret modelyard-redis: username, password, users.acl"
elif kubectl --namespace "$namespace" get secret modelyard-redis >/dev/null 2>&1; then
  echo "it is there"
else
  # Handed over on standard input: no argument list shows it.
  password=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
  kubectl create --filename - <<TEXT
apiVersion: v1
kind: Secret
metadata:
  name: modelyard-redis
  namespace: $namespace
stringData:
  username: modelyard
  password: $password
  users.acl: |
    user default off
    user modelyard on >$password ~modelyard:* -@all +@connection -@dangerous +get +mget +set
TEXT
fi

step "Ready. Next: helm --namespace $namespace install modelyard deploy/charts/modelyard --set redis.existingSecret=modelyard-redis"
