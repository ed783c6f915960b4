{{/* Names and labels. The first argument is always the root context, alone or in a dictionary as `root`. */}}
{{- define "stepwave.fullname" -}}
{{- $name := .Release.Name -}}
{{- if not (contains .Chart.Name $name) -}}{{- $name = printf "%s-%s" $name .Chart.Name -}}{{- end -}}
{{- $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "stepwave.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{ include "stepwave.selector" . }}
{{- end -}}

{{- define "stepwave.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "stepwave.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "stepwave.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{/* The image, of the values `image` and what a host has instead of parts of them. */}}
{{- define "stepwave.image" -}}
{{- $repository := default .root.Values.image.repository .image.repository -}}
{{- $own := or .image.repository .image.tag .image.digest -}}
{{- $digest := ternary .image.digest .root.Values.image.digest (not (empty $own)) -}}
{{- $tag := default (default .root.Chart.AppVersion .root.Values.image.tag) .image.tag -}}
{{- if $digest }}{{ printf "%s@%s" $repository $digest }}{{ else }}{{ printf "%s:%s" $repository $tag }}{{ end -}}
{{- end -}}

{{/* Seconds from SIGTERM to SIGKILL: more than a process takes at most, which is the pause before it, its drain, the clean-up of
     interrupted attempts, and 15 s for streams and spans. */}}
{{- define "stepwave.terminationGrace" -}}
{{- add .pause .process.drainTimeout .process.cancelGrace 15 -}}
{{- end -}}

{{/* One variable of the environment. Helm's numbers are floating, and a million must not become 1e+06. */}}
{{- define "stepwave.variable" -}}
- name: {{ .name }}
{{- if and (kindIs "float64" .value) (eq (floor .value) .value) }}
  value: {{ printf "%.0f" .value | quote }}
{{- else }}
  value: {{ .value | toString | quote }}
{{- end }}
{{- end -}}

{{/* The environment that servers and hosts have alike. */}}
{{- define "stepwave.environment" -}}
{{- $temporal := .root.Values.temporal -}}
{{ include "stepwave.variable" (dict "name" "STEPWAVE_HEALTH" "value" "0.0.0.0:50052") }}
{{- if .root.Values.metrics.enabled }}
{{ include "stepwave.variable" (dict "name" "STEPWAVE_METRICS_LISTEN" "value" "0.0.0.0:9464") }}
{{- end }}
{{- if or .root.Values.metrics.enabled (and (eq .component "server") (not .process.tls.secret)) }}
{{ include "stepwave.variable" (dict "name" "STEPWAVE_INSECURE" "value" "true") }}   # metrics, and calls without TLS
{{- end }}
{{ include "stepwave.variable" (dict "name" "STEPWAVE_DRAIN_TIMEOUT" "value" .process.drainTimeout) }}
{{ include "stepwave.variable" (dict "name" "STEPWAVE_CANCEL_GRACE" "value" .process.cancelGrace) }}
{{- if eq .root.Values.engine "temporal" }}
{{ include "stepwave.variable" (dict "name" "STEPWAVE_TEMPORAL_ADDRESS" "value" $temporal.address) }}
{{ include "stepwave.variable" (dict "name" "STEPWAVE_TEMPORAL_NAMESPACE" "value" $temporal.namespace) }}
{{ include "stepwave.variable" (dict "name" "STEPWAVE_TEMPORAL_TASK_QUEUE" "value" $temporal.taskQueue) }}
{{ include "stepwave.variable" (dict "name" "STEPWAVE_TEMPORAL_WAIT" "value" $temporal.wait) }}
{{- if $temporal.tls.enabled }}
{{ include "stepwave.variable" (dict "name" "STEPWAVE_TEMPORAL_TLS" "value" "true") }}
{{- if $temporal.tls.authority }}
{{ include "stepwave.variable" (dict "name" "STEPWAVE_TEMPORAL_TLS_CA" "value" "/run/secrets/temporal-ca/ca.crt") }}
{{- end }}
{{- if $temporal.tls.certificate }}
{{ include "stepwave.variable" (dict "name" "STEPWAVE_TEMPORAL_TLS_CERT" "value" "/run/secrets/temporal-tls/tls.crt") }}
{{ include "stepwave.variable" (dict "name" "STEPWAVE_TEMPORAL_TLS_KEY" "value" "/run/secrets/temporal-tls/tls.key") }}
{{- end }}
{{- if $temporal.apiKeySecret.name }}
{{ include "stepwave.variable" (dict "name" "STEPWAVE_TEMPORAL_API_KEY_FILE" "value" "/run/secrets/temporal-api/key") }}
{{- end }}
{{- end }}
{{- if $temporal.chunksSecret.name }}
- name: STEPWAVE_CHUNKS
  valueFrom:
    secretKeyRef: {name: {{ $temporal.chunksSecret.name | quote }}, key: {{ $temporal.chunksSecret.key | quote }}}
{{- else if $temporal.chunks }}
{{ include "stepwave.variable" (dict "name" "STEPWAVE_CHUNKS" "value" $temporal.chunks) }}
{{- end }}
{{- end }}
{{- if .process.limits }}
{{ include "stepwave.variable" (dict "name" "STEPWAVE_LIMITS" "value" "/etc/stepwave/limits/limits.yaml") }}
{{- end }}
{{- if .process.runnables }}
{{ include "stepwave.variable" (dict "name" "STEPWAVE_RUNNABLES" "value" "/etc/stepwave/runnables/runnables.toml") }}
{{- end }}
{{- if .process.mcpServers }}
{{ include "stepwave.variable" (dict "name" "STEPWAVE_MCP_SERVERS" "value" "/etc/stepwave/mcp/mcp_servers.toml") }}
{{- end }}
{{- if .process.secrets.permissions }}
{{ include "stepwave.variable" (dict "name" "STEPWAVE_SECRETS" "value" "/etc/stepwave/secrets/secrets.toml") }}
{{- end }}
{{- range $name, $value := .process.settings }}
{{ include "stepwave.variable" (dict "name" (printf "STEPWAVE_%s" (upper $name)) "value" $value) }}
{{- end }}
{{- range $name, $value := .process.env }}
{{ include "stepwave.variable" (dict "name" $name "value" $value) }}
{{- end }}
{{- end -}}

{{/* What a container has of existing Secrets as environment. */}}
{{- define "stepwave.environmentFrom" -}}
{{- with .process.secrets.environment }}
envFrom:
  {{- range . }}
  - secretRef: {name: {{ . | quote }}}
  {{- end }}
{{- end }}
{{- end -}}

{{/* No root, no capabilities, nothing to write to but volumes. */}}
{{- define "stepwave.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{- define "stepwave.podSecurity" -}}
serviceAccountName: {{ include "stepwave.serviceAccountName" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* The volumes that servers and hosts have alike, and where they are. */}}
{{- define "stepwave.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if .process.limits }}
- {name: limits, mountPath: /etc/stepwave/limits, readOnly: true}
{{- end }}
{{- if .process.runnables }}
- {name: runnables, mountPath: /etc/stepwave/runnables, readOnly: true}
{{- end }}
{{- if .process.mcpServers }}
- {name: mcp-servers, mountPath: /etc/stepwave/mcp, readOnly: true}
{{- end }}
{{- if .process.secrets.permissions }}
- {name: permissions, mountPath: /etc/stepwave/secrets, readOnly: true}
{{- end }}
{{- if .process.secrets.folder }}
- {name: secrets, mountPath: /run/secrets/stepwave, readOnly: true}
{{- end }}
{{- if .root.Values.temporal.tls.authority }}
- {name: temporal-ca, mountPath: /run/secrets/temporal-ca, readOnly: true}
{{- end }}
{{- if .root.Values.temporal.tls.certificate }}
- {name: temporal-tls, mountPath: /run/secrets/temporal-tls, readOnly: true}
{{- end }}
{{- if .root.Values.temporal.apiKeySecret.name }}
- {name: temporal-api, mountPath: /run/secrets/temporal-api, readOnly: true}
{{- end }}
{{- end -}}

{{- define "stepwave.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 1Gi}
{{- with .process.limits }}
- name: limits
  configMap: {name: {{ . | quote }}}
{{- end }}
{{- with .process.runnables }}
- name: runnables
  configMap: {name: {{ . | quote }}}
{{- end }}
{{- with .process.mcpServers }}
- name: mcp-servers
  configMap: {name: {{ . | quote }}}
{{- end }}
{{- with .process.secrets.permissions }}
- name: permissions
  configMap: {name: {{ . | quote }}}
{{- end }}
{{- with .process.secrets.folder }}
- name: secrets
  secret: {secretName: {{ . | quote }}, defaultMode: 0440}
{{- end }}
{{- with .root.Values.temporal.tls.authority }}
- name: temporal-ca
  secret:   # the key `tls.key` of this Secret is not for this pod
    secretName: {{ . | quote }}
    items: [{key: ca.crt, path: ca.crt}]
    defaultMode: 0440
{{- end }}
{{- with .root.Values.temporal.tls.certificate }}
- name: temporal-tls
  secret: {secretName: {{ . | quote }}, defaultMode: 0440}
{{- end }}
{{- with .root.Values.temporal.apiKeySecret }}
{{- if .name }}
- name: temporal-api
  secret:
    secretName: {{ .name | quote }}
    items: [{key: {{ .key | quote }}, path: key}]
    defaultMode: 0440
{{- end }}
{{- end }}
{{- end -}}

{{/* Where pods may run. Those of one kind are spread over machines. */}}
{{- define "stepwave.placement" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "stepwave.selector" . | nindent 8 }}
{{- with .process.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .process.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .process.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A process is not ready while it drains, or while its journal or Temporal fails. A restart would help in none of these cases, so
     `liveness` only says whether it answers. */}}
{{- define "stepwave.probes" -}}
startupProbe:
  grpc: {port: 50052, service: liveness}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 60
readinessProbe:
  grpc: {port: 50052}
  periodSeconds: 5
  timeoutSeconds: 5
livenessProbe:
  grpc: {port: 50052, service: liveness}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end -}}
