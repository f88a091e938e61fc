{{/* model.toml, as a dict; whatever in it is needed here is checked. */}}
{{- define "model.manifest" -}}
{{- $manifest := fromToml .Values.model }}
{{- with get $manifest "Error" }}{{ fail (printf "model: not TOML: %s" .) }}{{ end }}
{{- range list "name" "version" }}
{{- $value := get $manifest . }}
{{- if not (and (kindIs "string" $value) (regexMatch "^[a-z0-9][a-z0-9._-]{0,63}$" ($value | toString))) }}
{{- fail (printf "model: %s: expected lower-case letters, digits, '.', '_' and '-', as a string; is it a model.toml? --set-file model=models/NAME/model.toml" .) }}
{{- end }}
{{- end }}
{{- range list "resources" "limits" "scaling" "environment" "calls" }}
{{- if not (kindIs "map" (get $manifest . | default dict)) }}{{ fail (printf "model: %s: expected a table, [%s]" . .) }}{{ end }}
{{- end }}
name: {{ $manifest.name | quote }}
version: {{ $manifest.version | quote }}
{{- $resources := $manifest.resources | default dict }}
cpu: {{ include "model.text" (list $resources "resources" "cpu" "500m" "^[0-9]+(\\.[0-9]+)?m?$" "Kubernetes units, for example \"500m\" or \"2\"") }}
memory: {{ include "model.text" (list $resources "resources" "memory" "256Mi" "^[0-9]+(Ki|Mi|Gi)$" "Kubernetes units, for example \"256Mi\" or \"1Gi\"") }}
{{- $gpu := hasKey $resources "gpu" | ternary $resources.gpu 0 }}
{{- if not (and (has (kindOf $gpu) (list "int" "int64")) (ge (int64 $gpu) 0)) }}{{ fail "model: [resources] gpu: expected a whole number, 0 or more" }}{{ end }}
gpu: {{ $gpu }}
gpuKind: {{ include "model.text" (list $resources "resources" "gpu_kind" "nvidia.com/gpu" "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$" "a resource of Kubernetes, for example \"nvidia.com/gpu\"") }}
{{- $environment := $manifest.environment | default dict }}
{{- $secrets := $environment.secrets | default list }}
{{- if not (kindIs "slice" $secrets) }}{{ fail "model: [environment] secrets: expected a list of names" }}{{ end }}
secrets: {{ toJson $secrets }}
calls: {{ toJson (($manifest.calls | default dict).models | default list) }}
{{- $limits := $manifest.limits | default dict }}
timeout: {{ include "model.number" (list $limits "limits" "timeout_s" 30) }}
loadTimeout: {{ include "model.number" (list $limits "limits" "load_timeout_s" 300) }}
{{- $scaling := $manifest.scaling | default dict }}
runners: {{ include "model.number" (list $scaling "scaling" "max_runners" 1) }}
{{- $scaleToZero := hasKey $scaling "scale_to_zero" | ternary $scaling.scale_to_zero false }}
{{- if not (kindIs "bool" $scaleToZero) }}{{ fail "model: [scaling] scale_to_zero: expected true or false" }}{{ end }}
scaleToZero: {{ $scaleToZero }}
{{- end }}

{{/* A text in model.toml, in quotes. Call with table, its name, key, default, regular expression, what is expected. */}}
{{- define "model.text" -}}
{{- $key := index . 2 }}
{{- $value := hasKey (index . 0) $key | ternary (get (index . 0) $key) (index . 3) }}
{{- if not (and (kindIs "string" $value) (regexMatch (index . 4) ($value | toString))) }}
{{- fail (printf "model: [%s] %s: expected %s" (index . 1) $key (index . 5)) }}
{{- end }}
{{- $value | quote }}
{{- end }}

{{/* A number in model.toml, rounded up. Call with table, its name, key, default. */}}
{{- define "model.number" -}}
{{- $key := index . 2 }}
{{- $value := hasKey (index . 0) $key | ternary (get (index . 0) $key) (index . 3) }}
{{- if not (and (has (kindOf $value) (list "int" "int64" "float64")) (gt (float64 $value) 0.0)) }}
{{- fail (printf "model: [%s] %s: expected a number over 0" (index . 1) $key) }}
{{- end }}
{{- $value | float64 | ceil | int64 }}
{{- end }}

{{/* Labels of every object. Call with the root. */}}
{{- define "model.labels" -}}
{{- include "model.podLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Labels of a pod: no version of the chart, so that a new one alone restarts nothing. */}}
{{- define "model.podLabels" -}}
{{- $manifest := include "model.manifest" . | fromYaml }}
{{- include "model.selector" . }}
app.kubernetes.io/part-of: modelyard
modelyard/model: {{ $manifest.name | trunc 63 | trimSuffix "-" | trimSuffix "." | trimSuffix "_" }}
modelyard/version: {{ $manifest.version | trunc 63 | trimSuffix "-" | trimSuffix "." | trimSuffix "_" | quote }}
{{- end }}

{{/* Labels by which an object is found; they never change. */}}
{{- define "model.selector" -}}
app.kubernetes.io/name: modelyard-model
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: worker
{{- end }}

{{- define "model.image" -}}
{{- $manifest := include "model.manifest" . | fromYaml }}
{{- with .Values.image -}}
{{ .registry }}/{{ .name | default (printf "modelyard-model-%s" ($manifest.name | replace "_" "-" | replace "." "-")) }}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* The model's queue, which is also its routing key; urgent requests have one more, …:high, and those
     that can wait …:low. */}}
{{- define "model.queue" -}}
{{- $manifest := include "model.manifest" . | fromYaml -}}
infer.{{ $manifest.name }}:{{ $manifest.version }}
{{- end }}

{{/* All of them, as a regular expression. */}}
{{- define "model.queues" -}}
{{ include "model.queue" . | replace "." "\\." }}(:high|:low)?
{{- end }}

{{/* Thousandths of a CPU: "500m", "2", "0.5". */}}
{{- define "model.milli" -}}
{{- if hasSuffix "m" . }}{{ trimSuffix "m" . | float64 | ceil | int64 }}{{ else }}{{ mulf (float64 .) 1000 | ceil | int64 }}{{ end }}
{{- end }}

{{/* KiB: "1Gi", "256Mi", "64Ki". */}}
{{- define "model.kibi" -}}
{{- $factor := hasSuffix "Gi" . | ternary 1048576 (hasSuffix "Mi" . | ternary 1024 1) }}
{{- mul (regexFind "^[0-9]+" . | int64) $factor }}
{{- end }}

{{/* What all runners of a pod and the worker need together. */}}
{{- define "model.resources" -}}
{{- $manifest := include "model.manifest" . | fromYaml }}
{{- $runners := int64 $manifest.runners }}
{{- $milli := add (include "model.milli" .Values.worker.cpu) (mul $runners (include "model.milli" $manifest.cpu)) }}
{{- $kibi := add (include "model.kibi" .Values.worker.memory) (mul $runners (include "model.kibi" $manifest.memory)) }}
{{- $memory := printf "%dMi" (div (add $kibi 1023) 1024) -}}
requests:
  cpu: {{ $milli }}m
  memory: {{ $memory }}
limits: # none on CPU: throttling would only add to the latency
  memory: {{ $memory }}
  {{- with mul $runners (int64 $manifest.gpu) }}
  {{ $manifest.gpuKind }}: {{ . }}
  {{- end }}
{{- end }}

{{/* The secrets that model.toml names, as files called like them: values say where each is. */}}
{{- define "model.secrets" -}}
{{- $manifest := include "model.manifest" . | fromYaml }}
{{- range $name, $_ := .Values.worker.secrets }}
{{- if not (has $name $manifest.secrets) }}{{ fail (printf "worker.secrets.%s: model.toml does not name it under [environment] secrets" $name) }}{{ end }}
{{- end }}
{{- range $manifest.secrets }}
{{- $where := get $.Values.worker.secrets . }}
{{- if not $where }}{{ fail (printf "model: [environment] secrets: where is %s? Set worker.secrets.%s.name to a Secret and worker.secrets.%s.key to a key in it" . . .) }}{{ end }}
- secret:
    name: {{ $where.name }}
    items:
      - {key: {{ $where.key | quote }}, path: {{ . }}}
{{- end }}
{{- end }}

{{/* Seconds without any progress after which a rollout has failed: a worker's time to load, and 5 minutes to be
     scheduled and to get its image. */}}
{{- define "model.progressDeadline" -}}
{{- $manifest := include "model.manifest" . | fromYaml }}
{{- add (int64 $manifest.loadTimeout) 300 }}
{{- end }}

{{/* Seconds that a whole rollout may take while it goes on: a quarter of the workers, rounded up, is replaced at a
     time (maxSurge), and each may take all its time to load. */}}
{{- define "model.rolloutTimeout" -}}
{{- $manifest := include "model.manifest" . | fromYaml }}
{{- $workers := max 1 (eq .Values.autoscaling.by "none" | ternary .Values.replicas .Values.autoscaling.maxReplicas) }}
{{- $atATime := div (add $workers 3) 4 }}
{{- $rounds := div (add $workers $atATime -1) $atATime }}
{{- add (mul $rounds (int64 $manifest.loadTimeout)) 300 }}
{{- end }}

{{/* The volume with the model's folder or weights, if values name one: the end of a list of volumes. */}}
{{- define "model.artefact" -}}
{{- $places := list .Values.registry.digest .Values.artefact.claim .Values.artefact.image | compact }}
{{- if gt (len $places) 1 }}{{ fail "the model has one place: registry.digest, artefact.claim or artefact.image" }}{{ end }}
{{- with .Values.artefact.claim }}
- name: artefact
  persistentVolumeClaim:
    claimName: {{ . }}
    readOnly: true
{{- end }}
{{- with .Values.artefact.image }}
- name: artefact
  image:
    reference: {{ . }}
    pullPolicy: {{ $.Values.artefact.pullPolicy }}
{{- end }}
{{- end }}

{{/* What the Pod Security Standard "restricted" asks of a pod. */}}
{{- define "model.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* And of a container. */}}
{{- define "model.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Names of Secrets with the registry's credentials, as a pod refers to them. */}}
{{- define "model.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* What decides on which nodes a pod may run, and whether they get its image. */}}
{{- define "model.placement" -}}
{{- include "model.pullSecrets" . }}
{{- with .Values.worker.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.worker.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
