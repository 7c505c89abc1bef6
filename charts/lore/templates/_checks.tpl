{{/* What no schema can say: values that do not go together. Each message names them. */}}

{{- define "lore.checks" -}}
{{- $edge := .Values.edge -}}
{{- $generator := .Values.generator -}}
{{- $margin := 5.0 -}}
{{- $drain := addf (float64 $edge.settings.drainDelayS) (float64 $edge.settings.drainSpreadS) -}}
{{- if ge $drain (float64 $edge.settings.graceS) -}}
{{- fail (printf "edge.settings.drainDelayS and drainSpreadS are %v s together: they must be less than edge.settings.graceS (%v)" $drain $edge.settings.graceS) -}}
{{- end -}}
{{- $needed := addf $edge.preStopSleepSeconds $edge.settings.graceS $margin -}}
{{- if lt (float64 $edge.terminationGracePeriodSeconds) $needed -}}
{{- fail (printf "edge.terminationGracePeriodSeconds (%v) must be at least edge.preStopSleepSeconds + edge.settings.graceS + %v s, which is %v: streams would be cut" $edge.terminationGracePeriodSeconds $margin $needed) -}}
{{- end -}}
{{- $needed := addf $generator.preStopSleepSeconds $generator.settings.drainS $margin -}}
{{- if lt (float64 $generator.terminationGracePeriodSeconds) $needed -}}
{{- fail (printf "generator.terminationGracePeriodSeconds (%v) must be at least generator.preStopSleepSeconds + generator.settings.drainS + %v s, which is %v: requests would not be handed back" $generator.terminationGracePeriodSeconds $margin $needed) -}}
{{- end -}}
{{- range $tier := list "edge" "generator" -}}
{{- $values := index $.Values $tier -}}
{{- if and (eq (toString $values.maxSurge) "0") (eq (toString $values.maxUnavailable) "0") -}}
{{- fail (printf "%s.maxSurge and %s.maxUnavailable are both 0: no rollout could begin" $tier $tier) -}}
{{- end -}}
{{- $scaling := index $.Values.scaling $tier -}}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) -}}
{{- fail (printf "scaling.%s.minReplicas (%v) is above scaling.%s.maxReplicas (%v)" $tier $scaling.minReplicas $tier $scaling.maxReplicas) -}}
{{- end -}}
{{- end -}}
{{- if and (eq .Values.scaling.type "hpa") .Values.scaling.generator.enabled (eq (int .Values.scaling.generator.minReplicas) 0) -}}
{{- fail "scaling.generator.minReplicas is 0, which scaling.type hpa cannot do; use keda, or at least 1" -}}
{{- end -}}
{{- if and (ne .Values.scaling.type "none") .Values.scaling.generator.enabled (not .Values.operator.enabled) -}}
{{- fail "operator.enabled is false, but scaling.generator needs its count of what waits; disable scaling.generator.enabled, or let the operator run" -}}
{{- end -}}
{{- if and (eq .Values.scaling.type "keda") (eq (int .Values.scaling.generator.minReplicas) 0) (le (int .Values.scaling.keda.cooldownPeriod) (int .Values.operator.policy.stall.afterSeconds)) -}}
{{- fail (printf "scaling.keda.cooldownPeriod (%v) must be above operator.policy.stall.afterSeconds (%v): a parked request would call the last generator back" .Values.scaling.keda.cooldownPeriod .Values.operator.policy.stall.afterSeconds) -}}
{{- end -}}
{{- $external := .Values.valkey.external -}}
{{- if and .Values.valkey.bundled.enabled (or $external.url $external.existingSecret) -}}
{{- fail "valkey.bundled.enabled is true, and valkey.external names another one: choose" -}}
{{- end -}}
{{- if not .Values.valkey.bundled.enabled -}}
{{- if not (or $external.url $external.existingSecret) -}}
{{- fail "valkey.bundled.enabled is false: set valkey.external.url or valkey.external.existingSecret" -}}
{{- end -}}
{{- if and $external.url $external.existingSecret -}}
{{- fail "valkey.external.url and valkey.external.existingSecret exclude each other" -}}
{{- end -}}
{{- end -}}
{{- if and (eq .Values.exposure.type "httproute") (not .Values.exposure.httpRoute.parentRefs) -}}
{{- fail "exposure.type is httproute: name a Gateway in exposure.httpRoute.parentRefs" -}}
{{- end -}}
{{- end }}
