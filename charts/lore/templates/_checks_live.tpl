{{/* Checks of fields that Kubernetes does not let change in an existing object. They run where Helm can
read the cluster. Each message names the value; docs/operations.md says how to change it. */}}

{{- define "lore.liveChecks" -}}
{{- include "lore.liveStore" . -}}
{{- include "lore.liveModels" . -}}
{{- $edge := lookup "apps/v1" "Deployment" .Release.Namespace (include "lore.component" (list . "edge")) -}}
{{- $name := dig "spec" "selector" "matchLabels" dict $edge -}}
{{- $name = get ($name | default dict) "app.kubernetes.io/name" -}}
{{- if and $name (ne $name (include "lore.name" .)) -}}
{{- fail (printf "nameOverride changes the pods' label app.kubernetes.io/name to %q, and it is %q: a Deployment's selector is immutable. Keep nameOverride, or install another release (docs/operations.md)" (include "lore.name" .) $name) -}}
{{- end -}}
{{- end }}

{{- define "lore.liveStore" -}}
{{- $wanted := .Values.valkey.bundled.persistence -}}
{{- $name := include "lore.component" (list . "valkey") -}}
{{- $live := ternary (lookup "apps/v1" "StatefulSet" .Release.Namespace $name) dict .Values.valkey.bundled.enabled -}}
{{- if $live -}}
{{- $way := printf "A StatefulSet's volumes are immutable: see \"What Kubernetes refuses to change\" in docs/operations.md, or restore the value" -}}
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
{{- $way := printf "That is immutable in a claim: create another claim, and set generator.modelCache.existingClaim to it (docs/operations.md)" -}}
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
{{- fail (printf "generator.modelCache.size is %v, and the claim %s has %v: a volume cannot shrink. Set %v or more" $cache.size $name $size $size) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* A Kubernetes quantity as a number: 1Gi equals 1024Mi. */}}
{{- define "lore.bytes" -}}
{{- $quantity := toString . -}}
{{- $suffix := regexFind "[A-Za-z]+$" $quantity -}}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "m" 0.001 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "Ei" 1152921504606846976 -}}
{{- printf "%.0f" (mulf (trimSuffix $suffix $quantity | float64) (get $units $suffix | float64)) -}}
{{- end }}
