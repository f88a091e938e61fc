{{/* Labels of every object. Call with (dict "root" $ "component" "gateway"). */}}
{{- define "modelyard.labels" -}}
{{ include "modelyard.selector" . }}
app.kubernetes.io/part-of: modelyard
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Labels of a pod: no version, so that a new chart alone restarts nothing. */}}
{{- define "modelyard.podLabels" -}}
{{ include "modelyard.selector" . }}
app.kubernetes.io/part-of: modelyard
{{- end }}

{{/* Labels by which an object is found; they never change. */}}
{{- define "modelyard.selector" -}}
app.kubernetes.io/name: modelyard
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "modelyard.image" -}}
{{- with .Values.image -}}
{{ .registry }}/{{ .name }}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "modelyard.rabbitmq" -}}
{{ .Release.Name }}-rabbitmq
{{- end }}

{{/* The Secret of the common cache; empty if there is none. */}}
{{- define "modelyard.cacheSecret" -}}
{{- if .Values.redis.enabled -}}
{{ .Values.redis.existingSecret | default (printf "%s-redis" .Release.Name) }}
{{- else -}}
{{ .Values.cache.existingSecret }}
{{- end }}
{{- end }}

{{/* What the Pod Security Standard "restricted" asks of a pod. Call with the user's number. */}}
{{- define "modelyard.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* And of a container. */}}
{{- define "modelyard.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Spread over zones and nodes, as far as there are several. Call with root and component. */}}
{{- define "modelyard.spread" -}}
{{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "modelyard.selector" $ | nindent 6 }}
  matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end }}

{{/* Names of Secrets with the registry's credentials, as a pod refers to them. */}}
{{- define "modelyard.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* What decides on which nodes a pod may run, and whether they get its image. */}}
{{- define "modelyard.placement" -}}
{{- include "modelyard.pullSecrets" . }}
{{- with .Values.gateway.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.gateway.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Refuses a limit of memory that is not what is requested. Call with of and resources. */}}
{{- define "modelyard.checkMemory" -}}
{{- if ne .resources.requests.memory .resources.limits.memory }}
{{- fail (printf "%s.resources: limits.memory is not requests.memory, so that a node that runs short may end it" .of) }}
{{- end }}
{{- end }}

{{/* How much of a volume has to be free: a tenth, at most 1 GiB. A volume is never quite empty, and the alarm
     must not go off on a new one. */}}
{{- define "modelyard.diskFreeLimit" -}}
{{- $storage := .Values.rabbitmq.storage }}
{{- $mebi := div (regexFind "^[0-9]+" $storage | int64) 1024 }}
{{- if hasSuffix "Mi" $storage }}{{ $mebi = mul $mebi 1024 }}
{{- else if hasSuffix "Gi" $storage }}{{ $mebi = mul (trimSuffix "Gi" $storage | int64) 1024 }}
{{- else if hasSuffix "Ti" $storage }}{{ $mebi = mul (trimSuffix "Ti" $storage | int64) 1024 1024 }}
{{- end }}
{{- if lt $mebi 1024 }}{{ fail "rabbitmq.storage: expected 1Gi or more" }}{{ end }}
{{- min 1024 (div $mebi 10) }}MiB
{{- end }}
