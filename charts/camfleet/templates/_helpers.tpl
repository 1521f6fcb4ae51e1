{{/* Names. 45 characters leave room for the longest suffix in a DNS label. */}}
{{- define "camfleet.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 45 | trimSuffix "-" }}
{{- end }}

{{- define "camfleet.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 45 | trimSuffix "-" }}
{{- else if contains (include "camfleet.name" .) .Release.Name }}
{{- .Release.Name | trunc 45 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "camfleet.name" .) | trunc 45 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Of cluster-scoped objects: two releases of one name in two namespaces do not collide. */}}
{{- define "camfleet.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "camfleet.fullname" .) }}
{{- end }}

{{- define "camfleet.serviceAccount" -}}
{{- $part := index .root.Values .part }}
{{- if $part.serviceAccount.create }}
{{- default (printf "%s-%s" (include "camfleet.fullname" .root) .part) $part.serviceAccount.name }}
{{- else }}
{{- default "default" $part.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "camfleet.selector" -}}
app.kubernetes.io/name: {{ include "camfleet.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{/* Labels and annotations of an object: {root, part}; part is empty for what belongs to no program. */}}
{{- define "camfleet.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ include "camfleet.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .part }}
app.kubernetes.io/component: {{ . }}
{{- end }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: camfleet
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "camfleet.annotations" -}}
{{- $all := merge (dict) (.own | default dict) .root.Values.commonAnnotations }}
{{- with $all }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "camfleet.metadata" -}}
name: {{ .name }}
namespace: {{ .namespace | default .root.Release.Namespace }}
labels:
  {{- include "camfleet.labels" . | nindent 2 }}
{{- include "camfleet.annotations" . }}
{{- end }}

{{- define "camfleet.clusterMetadata" -}}
name: {{ .name }}
labels:
  {{- include "camfleet.labels" . | nindent 2 }}
  {{- with .more }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- include "camfleet.annotations" . }}
{{- end }}

{{/* repository:tag@digest */}}
{{- define "camfleet.image" -}}
{{- $image := .image -}}
{{ $image.repository }}:{{ $image.tag | default .root.Chart.AppVersion }}{{ with $image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- define "camfleet.tokensSecret" -}}
{{- .Values.viewerTokens.existingSecret | default (printf "%s-viewer-tokens" (include "camfleet.fullname" .)) }}
{{- end }}

{{/* Address of the gateway inside the cluster. */}}
{{- define "camfleet.gatewayHost" -}}
{{ include "camfleet.fullname" . }}-gateway.{{ .Release.Namespace }}.svc
{{- end }}

{{/* Where a newcomer's first camera goes. */}}
{{- define "camfleet.firstNamespace" -}}
{{- if .Values.watchNamespaces }}{{ first .Values.watchNamespaces }}{{ else }}{{ .Release.Namespace }}{{ end }}
{{- end }}

{{/* The origins whose pages may connect: those given, and those that the ingress serves. */}}
{{- define "camfleet.origins" -}}
{{- $origins := .Values.gateway.allowedOrigins }}
{{- if .Values.ingress.enabled }}
{{- $secure := list }}
{{- range .Values.ingress.tls }}{{ $secure = concat $secure (.hosts | default list) }}{{ end }}
{{- range .Values.ingress.hosts }}
{{- $origins = append $origins (printf "%s://%s" (ternary "https" "http" (has . $secure)) .) }}
{{- end }}
{{- end }}
{{- uniq $origins | toJson }}
{{- end }}

{{/* What all cameras start from: the spec of a CameraProfile. What is empty is left out, and stays unset. */}}
{{- define "camfleet.defaults" -}}
{{- $worker := .Values.worker }}
{{- $inference := deepCopy $worker.inference }}
{{- if not $inference.detectors }}
{{- $_ := unset $inference "detectors" }}
{{- if not (or $worker.models.claimName $worker.models.baked) }}
{{- $_ := set $inference "detectors" (list "motion") }}
{{- end }}
{{- end }}
{{- if not $inference.engine }}{{ $_ := unset $inference "engine" }}{{ end }}
{{- $placement := dict }}
{{- range $key, $value := $worker.placement }}
{{- if $value }}{{ $_ := set $placement $key $value }}{{ end }}
{{- end }}
{{- $resources := dict }}
{{- range $kind, $amounts := $worker.resources }}
{{- $text := dict }}
{{- range $name, $amount := $amounts }}
{{- /* `cpu: 1` is a number in YAML and a quantity is text. */ -}}
{{- if not (kindIs "invalid" $amount) }}
{{- $whole := and (kindIs "float64" $amount) (eq (floor $amount) $amount) }}
{{- $_ := set $text $name (ternary (int64 $amount | toString) (toString $amount) $whole) }}
{{- end }}
{{- end }}
{{- if $text }}{{ $_ := set $resources $kind $text }}{{ end }}
{{- end }}
{{- $spec := dict "inference" $inference "stream" $worker.stream "health" $worker.health "gpu" $worker.gpu }}
{{- if $placement }}{{ $_ := set $spec "placement" $placement }}{{ end }}
{{- if $resources }}{{ $_ := set $spec "resources" $resources }}{{ end }}
{{- with $worker.site }}{{ $_ := set $spec "site" . }}{{ end }}
{{- toYaml $spec }}
{{- end }}

{{/* Of both Deployments' pods: {root, part, values}. */}}
{{- define "camfleet.podMetadata" -}}
{{- /* Nothing that changes with every version of the chart: pods restart when they have to, not more often. */ -}}
{{- $fixed := include "camfleet.selector" . | fromYaml }}
{{- $_ := set $fixed "app.kubernetes.io/part-of" "camfleet" }}
labels:
  {{- merge (dict) $fixed .values.podLabels .root.Values.commonLabels | toYaml | nindent 2 }}
{{- with merge (dict) (.own | default dict) .values.podAnnotations .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "camfleet.podPlacement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}
