{{/* What the pods have in common. */}}

{{/* Settings in camelCase as environment variables: queueLimit: 8 is LORE_QUEUE_LIMIT=8. */}}
{{- define "lore.settings" -}}
{{- $ := index . 0 -}}
{{- range $name, $value := include "lore.overlaid" (list $.Values.settings (index . 2).settings) | fromYaml }}
- name: LORE_{{ $name | snakecase | upper }}
  value: {{ ternary $value (toJson $value) (kindIs "string" $value) | quote }}
{{- end }}
{{- end }}

{{/* Whether generators load their model from a hub. */}}
{{- define "lore.hub" -}}
{{- $model := .Values.generator.settings.model | default "" -}}
{{- $ours := and (eq .Values.generator.engine.type "none") (eq (default "transformers" .Values.generator.settings.engine) "transformers") -}}
{{- ternary "hub" "" (and $ours (regexMatch "^[^./~][^/]*(/[^/]+)?$" $model) (not (hasSuffix ".gguf" $model))) -}}
{{- end }}

{{/* The model's name as generators tell it, where the values say which it is: edges know it then
before the first generator is there. */}}
{{- define "lore.modelName" -}}
{{- $settings := .Values.generator.settings -}}
{{- $engine := default "transformers" $settings.engine -}}
{{- if and $settings.model (ne $engine "synthetic") -}}
{{- $whole := or (ne $engine "transformers") (include "lore.hub" .) -}}
{{ ternary $settings.model (trimSuffix ".gguf" (base $settings.model)) (not (not $whole)) }}
{{- end -}}
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

{{- define "lore.preStop" -}}
{{- if . }}
lifecycle:
  preStop:
    sleep:
      seconds: {{ . }}
{{- end }}
{{- end }}

{{/* The variables that all of Lore's own containers have. */}}
{{- define "lore.commonEnv" -}}
- name: LORE_HEALTH_HOST
  value: 0.0.0.0
- name: LORE_HEALTH_PORT
  value: "9090"
{{- include "lore.settings" . }}
{{- include "lore.tracing" (index . 0) }}
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
