{{/* What Kubernetes changes in no object that is there, seen where Helm sees the cluster. Each message
names the value, and docs/operations.md has the way that works. */}}

{{- define "lore.liveChecks" -}}
{{- include "lore.liveStore" . -}}
{{- include "lore.liveModels" . -}}
{{- $edge := lookup "apps/v1" "Deployment" .Release.Namespace (include "lore.component" (list . "edge")) -}}
{{- $name := dig "spec" "selector" "matchLabels" dict $edge -}}
{{- $name = get ($name | default dict) "app.kubernetes.io/name" -}}
{{- if and $name (ne $name (include "lore.name" .)) -}}
{{- fail (printf "nameOverride makes the pods' label app.kubernetes.io/name %q, which is %q: Kubernetes changes no selector. Leave it, or install another release (docs/operations.md)" (include "lore.name" .) $name) -}}
{{- end -}}
{{- end }}

{{- define "lore.liveStore" -}}
{{- $wanted := .Values.valkey.bundled.persistence -}}
{{- $name := include "lore.component" (list . "valkey") -}}
{{- $live := ternary (lookup "apps/v1" "StatefulSet" .Release.Namespace $name) dict .Values.valkey.bundled.enabled -}}
{{- if $live -}}
{{- $way := printf "Kubernetes changes no StatefulSet's volumes: see \"What Kubernetes refuses to change\" in docs/operations.md, or go back" -}}
{{- $claim := first (dig "spec" "volumeClaimTemplates" list $live | default list) | default dict -}}
{{- if ne $wanted.enabled (not (empty $claim)) -}}
{{- fail (printf "valkey.bundled.persistence.enabled is %v, and %s runs %s a volume. %s" $wanted.enabled $name (ternary "without" "with" $wanted.enabled) $way) -}}
{{- end -}}
{{- if $claim -}}
{{- $size := $claim.spec.resources.requests.storage -}}
{{- if ne (include "lore.bytes" $size) (include "lore.bytes" $wanted.size) -}}
{{- fail (printf "valkey.bundled.persistence.size is %v, and %s has %v. %s" $wanted.size $name $size $way) -}}
{{- end -}}
{{- $class := get $claim.spec "storageClassName" | default "" -}}
{{- $asked := coalesce $wanted.storageClass .Values.global.storageClass | default "" -}}
{{- if ne $class $asked -}}
{{- fail (printf "valkey.bundled.persistence.storageClass (or global.storageClass) is %q, and %s has %q. %s" $asked $name $class $way) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "lore.liveModels" -}}
{{- $cache := .Values.generator.modelCache -}}
{{- $name := printf "%s-models" (include "lore.fullname" .) -}}
{{- $made := and $cache.enabled (not $cache.existingClaim) -}}
{{- $live := ternary (lookup "v1" "PersistentVolumeClaim" .Release.Namespace $name) dict $made -}}
{{- if $live -}}
{{- $way := printf "Kubernetes does not change that in a claim: make another one, and name it in generator.modelCache.existingClaim (docs/operations.md)" -}}
{{- if ne (first $live.spec.accessModes) $cache.accessMode -}}
{{- fail (printf "generator.modelCache.accessMode is %s, and the claim %s has %s. %s" $cache.accessMode $name (first $live.spec.accessModes) $way) -}}
{{- end -}}
{{- $class := get $live.spec "storageClassName" | default "" -}}
{{- $asked := coalesce $cache.storageClass .Values.global.storageClass | default "" -}}
{{- if and $asked (ne $class $asked) -}}
{{- fail (printf "generator.modelCache.storageClass (or global.storageClass) is %q, and the claim %s has %q. %s" $asked $name $class $way) -}}
{{- end -}}
{{- $size := $live.spec.resources.requests.storage -}}
{{- if lt (include "lore.bytes" $cache.size | float64) (include "lore.bytes" $size | float64) -}}
{{- fail (printf "generator.modelCache.size is %v, and the claim %s has %v: a volume grows, where its class allows that, and never shrinks. Leave it at %v or more" $cache.size $name $size $size) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* A quantity of Kubernetes's as a number: 1Gi and 1024Mi are the same. */}}
{{- define "lore.bytes" -}}
{{- $quantity := toString . -}}
{{- $suffix := regexFind "[A-Za-z]+$" $quantity -}}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "m" 0.001 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "Ei" 1152921504606846976 -}}
{{- printf "%.0f" (mulf (trimSuffix $suffix $quantity | float64) (get $units $suffix | float64)) -}}
{{- end }}
