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

{{- define "lore.labels" -}}
{{- $ := index . 0 -}}
{{- $chart := printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" -}}
{{- $ours := dict "app.kubernetes.io/version" $.Chart.AppVersion "app.kubernetes.io/managed-by" $.Release.Service "helm.sh/chart" $chart -}}
{{- merge (include "lore.selector" . | fromYaml) $ours $.Values.labels (dict "app.kubernetes.io/part-of" "lore") | toYaml -}}
{{- end }}

{{/* name, namespace and labels of a component's object. */}}
{{- define "lore.metadata" -}}
name: {{ include "lore.component" . }}
namespace: {{ (index . 0).Release.Namespace }}
labels:
  {{- include "lore.labels" . | nindent 2 }}
{{- end }}

{{/* A registry, a repository and a tag or digest as one name. A repository that begins with a host
is whole. */}}
{{- define "lore.imageName" -}}
{{- $registry := ternary "" (index . 0) (regexMatch "^([^/]*[.:][^/]*|localhost)/" (index . 1)) -}}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{ index . 1 }}{{ ternary "@" ":" (hasPrefix "sha256:" (index . 2)) }}{{ index . 2 }}
{{- end }}

{{/* One of Lore's own images. */}}
{{- define "lore.image" -}}
{{- $ := index . 0 -}}
{{- $image := (index $.Values (index . 1)).image -}}
{{- $registry := coalesce $.Values.image.registry $.Values.global.imageRegistry -}}
{{- include "lore.imageName" (list $registry $image.repository (coalesce $image.tag $.Values.image.tag $.Chart.AppVersion)) -}}
{{- end }}

{{- define "lore.valkeyImage" -}}
{{- $image := .Values.valkey.bundled.image -}}
{{- $registry := coalesce $image.registry .Values.global.imageRegistry "docker.io" -}}
{{- include "lore.imageName" (list $registry $image.repository $image.tag) -}}
{{- end }}

{{/* Who owns a tier's number of pods: "none", "hpa" or "keda". */}}
{{- define "lore.scaler" -}}
{{- $scaling := (index . 0).Values.scaling -}}
{{ ternary $scaling.type "none" (index $scaling (index . 1)).enabled }}
{{- end }}
