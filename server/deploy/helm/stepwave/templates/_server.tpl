{{/* The pod of a server: the same for one server with a volume and for replicas on Temporal. */}}
{{- define "stepwave.serverPod" -}}
{{- $server := .Values.server -}}
{{- $pause := 5 -}}
{{- $scope := dict "root" . "component" "server" "process" $server "pause" $pause -}}
metadata:
  labels: {{- include "stepwave.labels" $scope | nindent 4 }}
  {{- with $server.podAnnotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- include "stepwave.podSecurity" $scope | nindent 2 }}
  {{- include "stepwave.placement" $scope | nindent 2 }}
  terminationGracePeriodSeconds: {{ include "stepwave.terminationGrace" $scope }}
  containers:
    - name: server
      image: {{ include "stepwave.image" (dict "root" . "image" (dict "repository" "" "tag" "" "digest" "")) | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - serve
        {{- range $server.actions }}
        - {{ printf "--actions=%s" . | quote }}
        {{- end }}
      {{- include "stepwave.containerSecurity" . | nindent 6 }}
      env:
        {{- include "stepwave.variable" (dict "name" "STEPWAVE_LISTEN" "value" "0.0.0.0:50051") | nindent 8 }}
        {{- if $server.tls.secret }}
        {{- include "stepwave.variable" (dict "name" "STEPWAVE_TLS_CERT" "value" "/run/secrets/stepwave-tls/tls.crt") | nindent 8 }}
        {{- include "stepwave.variable" (dict "name" "STEPWAVE_TLS_KEY" "value" "/run/secrets/stepwave-tls/tls.key") | nindent 8 }}
        {{- if $server.tls.clients }}
        {{- include "stepwave.variable" (dict "name" "STEPWAVE_TLS_CLIENT_CA" "value" "/run/secrets/stepwave-tls/ca.crt") | nindent 8 }}
        {{- end }}
        {{- end }}
        {{- if $server.access }}
        {{- include "stepwave.variable" (dict "name" "STEPWAVE_ACCESS" "value" "/run/secrets/stepwave-access/access.toml") | nindent 8 }}
        {{- end }}
        {{- include "stepwave.variable" (dict "name" "STEPWAVE_ENGINE" "value" .Values.engine) | nindent 8 }}
        {{- if eq .Values.engine "local" }}
        {{- $journal := ternary "sqlite:/data/stepwave/journal.db" "memory" .Values.persistence.enabled }}
        {{- include "stepwave.variable" (dict "name" "STEPWAVE_JOURNAL" "value" $journal) | nindent 8 }}
        {{- end }}
        {{- include "stepwave.variable" (dict "name" "STEPWAVE_MAX_CONNECTION_AGE" "value" $server.maxConnectionAge) | nindent 8 }}
        {{- if $server.workflows }}
        {{- include "stepwave.variable" (dict "name" "STEPWAVE_WORKFLOWS" "value" "/etc/stepwave/workflows") | nindent 8 }}
        {{- end }}
        {{- include "stepwave.environment" $scope | nindent 8 }}
      {{- with include "stepwave.environmentFrom" $scope }}
      {{- . | nindent 6 }}
      {{- end }}
      ports:
        - {name: grpc, containerPort: 50051}
        - {name: health, containerPort: 50052}   # for the probes alone
        {{- if .Values.metrics.enabled }}
        - {name: metrics, containerPort: 9464}
        {{- end }}
      {{- include "stepwave.probes" . | nindent 6 }}
      lifecycle:
        preStop:   # until no new call comes: endpoints are withdrawn meanwhile
          exec: {command: [sleep, {{ $pause | quote }}]}
      resources: {{- toYaml $server.resources | nindent 8 }}
      volumeMounts:
        {{- include "stepwave.mounts" $scope | nindent 8 }}
        {{- if eq .Values.engine "local" }}
        - {name: data, mountPath: /data}
        {{- end }}
        {{- if $server.tls.secret }}
        - {name: tls, mountPath: /run/secrets/stepwave-tls, readOnly: true}
        {{- end }}
        {{- if $server.access }}
        - {name: access, mountPath: /run/secrets/stepwave-access, readOnly: true}
        {{- end }}
        {{- if $server.workflows }}
        - {name: workflows, mountPath: /etc/stepwave/workflows, readOnly: true}
        {{- end }}
  volumes:
    {{- include "stepwave.volumes" $scope | nindent 4 }}
    {{- if and (eq .Values.engine "local") (not .Values.persistence.enabled) }}
    - {name: data, emptyDir: {}}
    {{- end }}
    {{- with $server.tls.secret }}
    - name: tls
      secret: {secretName: {{ . | quote }}, defaultMode: 0440}
    {{- end }}
    {{- with $server.access }}
    - name: access
      secret: {secretName: {{ . | quote }}, defaultMode: 0440}
    {{- end }}
    {{- with $server.workflows }}
    - name: workflows
      configMap: {name: {{ . | quote }}}
    {{- end }}
{{- end -}}
