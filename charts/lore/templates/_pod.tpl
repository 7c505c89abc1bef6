{{/* What the pods have in common. */}}

{{- define "lore.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{- define "lore.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* Scheduling, from a tier's values. */}}
{{- define "lore.scheduling" -}}
{{- $tier := index . 2 -}}
{{- with $tier.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $tier.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $tier.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $tier.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $tier.topologySpread }}
topologySpreadConstraints:
  {{- range . }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "lore.selector" $ | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}
{{- end }}

{{/* Settings in camelCase as environment variables: queueLimit: 8 is LORE_QUEUE_LIMIT=8. */}}
{{- define "lore.settings" -}}
{{- $ := index . 0 -}}
{{- $settings := mergeOverwrite (deepCopy $.Values.settings) (deepCopy (index $.Values (index . 1)).settings) -}}
{{- range $name, $value := $settings }}
- name: LORE_{{ $name | snakecase | upper }}
  value: {{ ternary $value (toJson $value) (kindIs "string" $value) | quote }}
{{- end }}
{{- end }}

{{/* Where the store is. The password stands before the URL that names it. */}}
{{- define "lore.valkey" -}}
{{- $ := index . 0 -}}
{{- $external := $.Values.valkey.external -}}
{{- if $.Values.valkey.bundled.enabled -}}
- name: VALKEY_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "lore.secretName" $ }}
      key: valkey-password
- name: LORE_VALKEY_URL
  value: valkey://:$(VALKEY_PASSWORD)@{{ include "lore.component" (list $ "valkey") }}:6379
{{- else if $external.existingSecret -}}
- name: LORE_VALKEY_URL
  valueFrom:
    secretKeyRef:
      name: {{ $external.existingSecret }}
      key: {{ index $external.keys (index . 1) }}
{{- else -}}
{{- $files := list -}}
{{- if $external.tls.existingSecret -}}
{{- $files = list "ssl_ca_certs=/etc/lore/valkey-tls/ca.crt" -}}
{{- if $external.tls.clientCertificate -}}
{{- $files = concat $files (list "ssl_certfile=/etc/lore/valkey-tls/tls.crt" "ssl_keyfile=/etc/lore/valkey-tls/tls.key") -}}
{{- end -}}
{{- end -}}
- name: LORE_VALKEY_URL
  value: {{ list $external.url (join "&" $files) | compact | join (ternary "&" "?" (contains "?" $external.url)) | quote }}
{{- end }}
{{- end }}

{{- define "lore.valkeyTlsMount" -}}
{{- if .Values.valkey.external.tls.existingSecret }}
- name: valkey-tls
  mountPath: /etc/lore/valkey-tls
  readOnly: true
{{- end }}
{{- end }}

{{- define "lore.valkeyTlsVolume" -}}
{{- with .Values.valkey.external.tls }}
{{- if .existingSecret }}
# A folder and not single files: renewed certificates reach it without a restart.
- name: valkey-tls
  secret:
    secretName: {{ .existingSecret }}
    items:
      - {key: ca.crt, path: ca.crt}
      {{- if .clientCertificate }}
      - {key: tls.crt, path: tls.crt}
      - {key: tls.key, path: tls.key}
      {{- end }}
    defaultMode: 0440
{{- end }}
{{- end }}
{{- end }}

{{/* The health port answers from a thread of its own, so a busy pod passes; the long timeouts are
for nodes that are short of CPU. */}}
{{- define "lore.probes" -}}
livenessProbe:
  httpGet: {path: /livez, port: health}
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: health}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 2
{{- end }}

{{- define "lore.preStop" -}}
{{- if . }}
lifecycle:
  preStop:
    sleep:
      seconds: {{ . }}
{{- end }}
{{- end }}

{{- define "lore.health" -}}
- name: LORE_HEALTH_HOST
  value: 0.0.0.0
- name: LORE_HEALTH_PORT
  value: "9090"
{{- end }}

{{/* OpenTelemetry's own variables. */}}
{{- define "lore.tracing" -}}
{{- with .Values.tracing }}
{{- if .endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .endpoint | quote }}
- name: OTEL_TRACES_SAMPLER
  value: parentbased_traceidratio
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ .ratio | quote }}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: k8s.namespace.name={{ $.Release.Namespace }}
{{- end }}
{{- end }}
{{- end }}

{{- define "lore.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}
