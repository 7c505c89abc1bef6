{{/* Names and labels. A component's context is (list $ "edge"). */}}

{{- define "lore.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Short enough for "-generator" and a pod's suffixes behind it. */}}
{{- define "lore.fullname" -}}
{{- $name := include "lore.name" . -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains $name .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- define "lore.component" -}}
{{ printf "%s-%s" (include "lore.fullname" (index . 0)) (index . 1) }}
{{- end }}

{{- define "lore.selector" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: {{ include "lore.name" $ }}
app.kubernetes.io/instance: {{ $.Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Without versions: a new chart restarts only the pods that it changes. */}}
{{- define "lore.podLabels" -}}
{{ include "lore.selector" . }}
app.kubernetes.io/part-of: lore
{{- with (index . 0).Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "lore.labels" -}}
{{- $ := index . 0 -}}
{{ include "lore.selector" . }}
app.kubernetes.io/part-of: lore
app.kubernetes.io/version: {{ $.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" }}
{{- with $.Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* name, namespace and labels of a component's object. */}}
{{- define "lore.metadata" -}}
name: {{ include "lore.component" . }}
namespace: {{ (index . 0).Release.Namespace }}
labels:
  {{- include "lore.labels" . | nindent 2 }}
{{- end }}

{{/* One of Lore's own images. */}}
{{- define "lore.image" -}}
{{- $ := index . 0 -}}
{{- $image := (index $.Values (index . 1)).image -}}
{{- $tag := coalesce $image.tag $.Values.image.tag $.Chart.AppVersion -}}
{{- with $.Values.image.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{ $image.repository }}{{ ternary "@" ":" (hasPrefix "sha256:" $tag) }}{{ $tag }}
{{- end }}

{{- define "lore.secretName" -}}
{{ default (include "lore.fullname" .) .Values.secrets.existing }}
{{- end }}

{{/* Who owns a tier's number of pods: "none", "hpa" or "keda". */}}
{{- define "lore.scaler" -}}
{{- $scaling := (index . 0).Values.scaling -}}
{{ ternary $scaling.type "none" (index $scaling (index . 1)).enabled }}
{{- end }}
