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

{{/* Labels and annotations of an object: {root, part, more}; part is empty for what belongs to no program. */}}
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
{{- with merge (dict) (.more | default dict) .root.Values.commonLabels }}
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

{{/* Where events, people and pictures are kept, and the key for what is secret among them. */}}
{{- define "camfleet.dataClaim" -}}
{{- .Values.gateway.persistence.existingClaim | default (printf "%s-gateway-data" (include "camfleet.fullname" .)) }}
{{- end }}

{{- define "camfleet.dataKey" -}}
{{- .Values.gateway.encryption.existingSecret | default (printf "%s-data-key" (include "camfleet.fullname" .)) }}
{{- end }}

{{/* 10Gi as a number of bytes. */}}
{{- define "camfleet.bytes" -}}
{{- $units := dict "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 }}
{{- mul (regexFind "^[0-9]+" . | int64) (get $units (regexFind "[A-Za-z]+$" .)) }}
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
{{- $privacy := dict "blurFaces" $worker.privacy.blurFaces }}
{{- with $worker.privacy.retentionDays }}{{ $_ := set $privacy "retentionDays" (int .) }}{{ end }}
{{- $_ := set $spec "privacy" $privacy }}
{{- with $worker.alerts }}{{ $_ := set $spec "alerts" . }}{{ end }}
{{- if $placement }}{{ $_ := set $spec "placement" $placement }}{{ end }}
{{- if $resources }}{{ $_ := set $spec "resources" $resources }}{{ end }}
{{- with $worker.site }}{{ $_ := set $spec "site" . }}{{ end }}
{{- toYaml $spec }}
{{- end }}

{{/* What the schema cannot say. */}}
{{- define "camfleet.check" -}}
{{- $prometheus := .Values.prometheus }}
{{- $ways := list $prometheus.bearerTokenSecret.name $prometheus.serviceAccountToken $prometheus.basicAuthSecret.name }}
{{- if gt (len (compact $ways)) 1 }}
{{- fail "prometheus: set one of bearerTokenSecret, serviceAccountToken and basicAuthSecret" }}
{{- end }}
{{- if ne (empty $prometheus.basicAuthSecret.name) (empty $prometheus.basicAuthSecret.username) }}
{{- fail "prometheus.basicAuthSecret: set name and username, or neither" }}
{{- end }}
{{- if and $prometheus.tls.ca.secret $prometheus.tls.ca.configMap }}
{{- fail "prometheus.tls.ca: set either secret or configMap" }}
{{- end }}
{{- if and .Values.worker.inference.faceRecognition.enabled (not .Values.worker.privacy.retentionDays) }}
{{- fail "worker.inference.faceRecognition.enabled needs worker.privacy.retentionDays: say how long faces are kept" }}
{{- end }}
{{- if and .Values.gateway.milvus.tokenSecret.name (not .Values.gateway.milvus.url) }}
{{- fail "gateway.milvus.tokenSecret goes with gateway.milvus.url" }}
{{- end }}
{{- if ge (float64 .Values.health.loadLow) (float64 .Values.health.loadHigh) }}
{{- fail "health: loadLow must be less than loadHigh" }}
{{- end }}
{{- if and .Values.monitoring.podMonitor.enabled .Values.monitoring.serviceMonitor.enabled }}
{{- fail "monitoring: enable either podMonitor or serviceMonitor; with both everything would be scraped twice" }}
{{- end }}
{{- end }}

{{/* Files for the operator's requests to Prometheus, as sources of a projected volume; see camfleet.prometheusArgs. */}}
{{- define "camfleet.prometheusFiles" -}}
{{- $sources := list }}
{{- with .Values.prometheus }}
{{- if .url }}
{{- with .bearerTokenSecret }}
{{- if .name }}
{{- $sources = append $sources (dict "secret" (dict "name" .name "items" (list (dict "key" .key "path" "token")))) }}
{{- end }}
{{- end }}
{{- with .basicAuthSecret }}
{{- if .name }}
{{- $sources = append $sources (dict "secret" (dict "name" .name "items" (list (dict "key" .passwordKey "path" "password")))) }}
{{- end }}
{{- end }}
{{- with .tls.ca }}
{{- $items := list (dict "key" .key "path" "ca.crt") }}
{{- if .secret }}{{ $sources = append $sources (dict "secret" (dict "name" .secret "items" $items)) }}{{ end }}
{{- if .configMap }}{{ $sources = append $sources (dict "configMap" (dict "name" .configMap "items" $items)) }}{{ end }}
{{- end }}
{{- with .tls.client }}
{{- if .secret }}
{{- $items := list (dict "key" .certKey "path" "tls.crt") (dict "key" .keyKey "path" "tls.key") }}
{{- $sources = append $sources (dict "secret" (dict "name" .secret "items" $items)) }}
{{- end }}
{{- end }}
{{- if .queries }}
{{- $sources = append $sources (dict "configMap" (dict "name" (printf "%s-queries" (include "camfleet.fullname" $)))) }}
{{- end }}
{{- end }}
{{- end }}
{{- $sources | toJson }}
{{- end }}

{{/* The operator's arguments about Prometheus, as a list in YAML. */}}
{{- define "camfleet.prometheusArgs" -}}
{{- $folder := "/etc/camfleet-prometheus" -}}
{{- with .Values.prometheus -}}
- --scrape-seconds={{ .scrapeSeconds }}
{{- if .url }}
- {{ printf "--prometheus-url=%s" .url | quote }}
- --prometheus-timeout-seconds={{ .timeoutSeconds }}
{{- if .bearerTokenSecret.name }}
- --prometheus-bearer-token-file={{ $folder }}/token
{{- end }}
{{- if .serviceAccountToken }}
- --prometheus-bearer-token-file=/var/run/secrets/kubernetes.io/serviceaccount/token
{{- end }}
{{- if .basicAuthSecret.name }}
- {{ printf "--prometheus-username=%s" .basicAuthSecret.username | quote }}
- --prometheus-password-file={{ $folder }}/password
{{- end }}
{{- if or .tls.ca.secret .tls.ca.configMap }}
- --prometheus-ca-file={{ $folder }}/ca.crt
{{- end }}
{{- if .tls.client.secret }}
- --prometheus-cert-file={{ $folder }}/tls.crt
- --prometheus-key-file={{ $folder }}/tls.key
{{- end }}
{{- if .tls.insecureSkipVerify }}
- --prometheus-insecure
{{- end }}
{{- range $name, $value := .headers }}
- {{ printf "--prometheus-header=%s: %s" $name $value | quote }}
{{- end }}
{{- if .queries }}
- --queries-file={{ $folder }}/queries.yaml
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* How often gateway and operator are scraped, as Prometheus writes it. */}}
{{- define "camfleet.scrapeInterval" -}}
{{- $seconds := float64 .Values.prometheus.scrapeSeconds }}
{{- if eq (floor $seconds) $seconds }}{{ int64 $seconds }}s{{ else }}{{ mulf $seconds 1000 | int64 }}ms{{ end }}
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
tolerations:
  {{- /* Kubernetes' own five minutes on a lost node would be five minutes without pictures. */}}
  {{- range list "not-ready" "unreachable" }}
  - key: node.kubernetes.io/{{ . }}
    operator: Exists
    effect: NoExecute
    tolerationSeconds: 30
  {{- end }}
  {{- with .tolerations }}
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
