{{/* What both kinds of scaler are made from: a tier's signals, each with its metric for
prometheus-adapter and its query for KEDA. README.md says why these. A query sums over a tier's
pods, so that it has one element, and its threshold is each pod's share. */}}

{{- define "lore.signals" -}}
{{- $ := index . 0 -}}
{{- $tier := index . 1 -}}
{{- $pods := printf "namespace=%q, pod=~%q" $.Release.Namespace (printf "%s-.+" (include "lore.component" .)) -}}
{{- $scaling := index $.Values.scaling $tier -}}
{{- if eq $tier "edge" }}
- metric: lore_edge_buffer_utilization_ratio
  each: {{ $scaling.bufferUtilization }}
  query: sum(lore_edge_buffer_utilization_ratio{ {{- $pods -}} })
{{- else }}
{{- /* Where there may be no generator, no metric of theirs is no news. */}}
{{- $none := ternary " or vector(0)" "" (eq (int $scaling.minReplicas) 0) }}
- metric: lore_generator_slots_used_ratio
  each: {{ $scaling.slotsInUse }}
  query: sum(lore_generator_requests{ {{- $pods }}, state="decoding"}) / max(lore_generator_slots{ {{- $pods -}} }){{ $none }}
- metric: lore_generator_kv_used_ratio
  each: {{ $scaling.kvInUse }}
  query: sum(lore_generator_kv_used_ratio{ {{- $pods -}} }){{ $none }}
{{- end }}
{{- end }}

{{/* Up at once, down slowly and one by one: a pod that goes sends its streams elsewhere. */}}
{{- define "lore.behavior" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  selectPolicy: Max
  policies:
    - {type: Percent, value: 100, periodSeconds: 30}
    - {type: Pods, value: 2, periodSeconds: 30}
scaleDown:
  stabilizationWindowSeconds: {{ .scaleDownSeconds }}
  policies:
    - {type: Pods, value: 1, periodSeconds: 60}
{{- end }}

{{- define "lore.queueQuery" -}}
max(lore_queue_oldest_seconds{namespace={{ .Release.Namespace | quote }}, pod=~{{ printf "%s-.+" (include "lore.component" (list . "operator")) | quote }}})
{{- end }}

{{/* A query without an answer is an error, and KEDA then changes nothing. */}}
{{- define "lore.prometheus" -}}
serverAddress: {{ .Values.scaling.keda.serverAddress }}
ignoreNullValues: "false"
{{- with .Values.scaling.keda.authModes }}
authModes: {{ . }}
{{- end }}
{{- end }}

{{- define "lore.prometheusAuth" -}}
{{- with .Values.scaling.keda.triggerAuthentication }}
authenticationRef:
  name: {{ . }}
{{- end }}
{{- end }}

{{/* A tier's number of pods, unless a scaler sets it. A release that is handed to one keeps what
runs: a field that Helm lets go of falls back to 1 before the scaler has looked. */}}
{{- define "lore.replicas" -}}
{{- $ := index . 0 -}}
{{- if eq (include "lore.scaler" .) "none" -}}
replicas: {{ (index $.Values (index . 1)).replicas }}
{{- else -}}
{{- $live := lookup "apps/v1" "Deployment" $.Release.Namespace (include "lore.component" .) -}}
{{- $scaled := dig "metadata" "managedFields" list $live | toJson | contains "\"subresource\":\"scale\"" -}}
{{- if and $live (not $scaled) -}}
replicas: {{ $live.spec.replicas }}
{{- end -}}
{{- end -}}
{{- end }}
