#!/usr/bin/env bash
# Prepares a cluster for Modelyard: the namespace and the Redis secret, the operators, the metrics server.
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
Usage: deploy/install.sh [--kind] [--keda] [--namespace NAME] [--mirror WHERE] [--timeout SECONDS] [--dry-run]

  --kind       the cluster is kind's: its nodes' certificates are not checked by the metrics server
  --keda       KEDA as well, to scale by demand or by the length of queues
  --namespace  where Modelyard will be (modelyard)
  --mirror     where the releases' files are, without the internet: an address that stands for
               https://github.com, or a folder with the files in it; --dry-run names them
  --timeout    how many seconds each part may take to be applied and ready (300)
  --dry-run    say what would be done, and do nothing
TEXT
}

fail() {
  echo "$1" >&2
  exit 2
}

github=https://github.com
overlay=k8s-config/metrics-server keda=false namespace=modelyard mirror=$github timeout=300 dry_run=false
while [ $# -gt 0 ]; do
  case $1 in
    --kind) overlay=k8s-config/metrics-server-kind ;;
    --keda) keda=true ;;
    --namespace | --mirror | --timeout)
      [ $# -ge 2 ] || fail "$1 needs a value"
      printf -v "${1#--}" %s "$2"
      shift
      ;;
    --dry-run) dry_run=true ;;
    --help | -h) usage && exit 0 ;;
    *) usage >&2 && fail "unknown argument: $1" ;;
  esac
  shift
done
[[ $timeout =~ ^[1-9][0-9]*$ ]] || fail "--timeout: expected seconds, got $timeout"
if [ -d "$mirror" ]; then
  mirror=$(cd "$mirror" && pwd)
elif [[ $mirror != *://* ]]; then
  fail "--mirror: no such folder, and no address: $mirror"
fi

cd "$(dirname "${BASH_SOURCE[0]}")/.."

manager=modelyard-install
ours=(--server-side --force-conflicts "--field-manager=$manager")
summary=() current='' scratch=''

# at_exit: says how far it came, also where it stopped.
at_exit() {
  local code=$?
  [ -z "$scratch" ] || rm -rf "$scratch"
  [ -n "$current" ] || exit "$code"
  printf '\n== Summary\n'
  if [ ${#summary[@]} -gt 0 ]; then printf '%s\n' "${summary[@]}"; fi
  if [ "$code" = 0 ]; then
    echo "Next: helm --namespace $namespace install modelyard deploy/charts/modelyard --set redis.existingSecret=modelyard-redis"
  else
    echo "$current: failed, see above. What is done stays: mend it, and run this again." >&2
  fi
  exit "$code"
}
trap at_exit EXIT

step() {
  current=$1
  printf '\n== %s\n' "$1"
}

# done_with OUTCOME: notes what came of the step, for the summary.
done_with() {
  if $dry_run; then summary+=("$current: would be $1"); else summary+=("$current: $1"); fi
}

kube() {
  printf '+ kubectl %s\n' "$*"
  if ! $dry_run; then kubectl "$@"; fi
}

# origin PATH: where a file of a release is: at GitHub, at the mirror, or in the mirror's folder.
origin() {
  if [ -d "$mirror" ]; then echo "$mirror/${1##*/}"; else echo "${mirror%/}/$1"; fi
}

# ensure WHAT PROOF NAMESPACE ARGUMENTS…: applies, unless PROOF (KIND/NAME) is there and is not from
# here; then waits for all that runs in NAMESPACE. Both together may take the timeout.
ensure() {
  local what=$1 proof=$2 where=$3 found end=$((SECONDS + timeout)) pause=${RETRY_S:-2}
  shift 3
  step "$what"
  if ! $dry_run && found=$(kubectl get "$proof" --output json --show-managed-fields --ignore-not-found \
    "--request-timeout=${timeout}s") && [ -n "$found" ] && ! grep -q "\"manager\": *\"$manager\"" <<<"$found"; then
    echo "$proof is there, and not from here"
    done_with "left alone, it is not from here"
    return
  fi
  # A webhook that has just started refuses what it should check: it is tried again.
  until kube apply "${ours[@]}" "--request-timeout=${timeout}s" "$@"; do
    if [ "$SECONDS" -ge "$end" ]; then
      echo "gave up after $timeout s: kubectl apply $*" >&2
      exit 1
    fi
    echo "not yet: it is tried again in $pause s, for $((end - SECONDS)) s more" >&2
    sleep "$pause"
    pause=$((pause * 2))
  done
  local left=$((end - SECONDS))
  kube --namespace "$where" wait deployment --all --for=condition=Available "--timeout=$((left > 0 ? left : 1))s"
  done_with "installed"
}

# What the releases consist of. Whatever is missing in a folder is told before anything is changed.
cert_manager=cert-manager/cert-manager/releases/download/$CERT_MANAGER/cert-manager.yaml
cluster_operator=rabbitmq/cluster-operator/releases/download/$CLUSTER_OPERATOR/cluster-operator.yml
topology_operator=rabbitmq/messaging-topology-operator/releases/download/$TOPOLOGY_OPERATOR/messaging-topology-operator-with-certmanager.yaml
metrics_server=$(sed -n "s#^ *- $github/##p" k8s-config/metrics-server/kustomization.yaml)
keda_itself=kedacore/keda/releases/download/$KEDA/keda-${KEDA#v}.yaml
files=("$cert_manager" "$cluster_operator" "$topology_operator" "$metrics_server")
if $keda; then files+=("$keda_itself"); fi
missing=()
for file in "${files[@]}"; do
  if $dry_run; then echo "File: $(origin "$file")"; fi
  if [ -d "$mirror" ] && [ ! -f "$(origin "$file")" ]; then missing+=("$github/$file"); fi
done
if [ ${#missing[@]} -gt 0 ]; then fail "$mirror lacks the files of:"$'\n'"$(printf '%s\n' "${missing[@]}")"; fi

if [ "$mirror" != "$github" ]; then
  # The metrics server's file is named in a kustomization: a copy of that names the mirror's.
  scratch=$(mktemp -d)
  cp -R k8s-config/metrics-server k8s-config/metrics-server-kind "$scratch/"
  instead=$(origin "$metrics_server")
  if [ -d "$mirror" ]; then # nothing outside of its own folder is read
    cp "$instead" "$scratch/metrics-server/components.yaml"
    instead=components.yaml
  fi
  sed "s#$github/$metrics_server#$instead#" k8s-config/metrics-server/kustomization.yaml \
    >"$scratch/metrics-server/kustomization.yaml"
  overlay=$scratch/${overlay#k8s-config/}
fi

if ! $dry_run; then
  command -v kubectl >/dev/null || fail "kubectl is not installed"
  echo "Cluster: $(kubectl config current-context)"
fi

step "Namespace $namespace, which enforces the Pod Security Standard \"restricted\""
if $dry_run; then
  echo "+ kubectl apply, k8s-config/namespace.yaml with the name $namespace"
else
  sed "s/^  name: modelyard$/  name: $namespace/" k8s-config/namespace.yaml |
    kubectl apply "${ours[@]}" "--request-timeout=${timeout}s" --filename -
fi
done_with "made"

step "Secret modelyard-redis, a password for Redis"
if $dry_run; then
  echo "+ kubectl create secret modelyard-redis, unless there is one: username, password, users.acl"
  done_with "made"
elif kubectl --namespace "$namespace" get secret modelyard-redis "--request-timeout=${timeout}s" >/dev/null 2>&1; then
  done_with "there already, left as it is"
else
  # Handed over on standard input: no argument list shows it.
  password=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
  kubectl create "--request-timeout=${timeout}s" --filename - <<TEXT
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
  done_with "made"
fi

ensure "cert-manager $CERT_MANAGER" crd/certificates.cert-manager.io cert-manager --filename "$(origin "$cert_manager")"
ensure "RabbitMQ Cluster Operator $CLUSTER_OPERATOR" crd/rabbitmqclusters.rabbitmq.com rabbitmq-system \
  --filename "$(origin "$cluster_operator")"
ensure "RabbitMQ Messaging Topology Operator $TOPOLOGY_OPERATOR" crd/users.rabbitmq.com rabbitmq-system \
  --filename "$(origin "$topology_operator")"
ensure "Metrics server" apiservice/v1beta1.metrics.k8s.io kube-system --kustomize "$overlay"
if $keda; then
  ensure "KEDA $KEDA" crd/scaledobjects.keda.sh keda --filename "$(origin "$keda_itself")"
fi
