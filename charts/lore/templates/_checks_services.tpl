{{/* Checks of values with which a service, or its pod, would not start. Nothing but its log or an event
would say so, and only later. */}}

{{- define "lore.serviceChecks" -}}
{{- $full := include "lore.fullname" . -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $full) -}}
{{- fail (printf "the release's name makes Services named %s-edge, which Kubernetes refuses: set fullnameOverride to a name of small letters, digits and -, beginning with a letter" $full) -}}
{{- end -}}
{{- include "lore.settingChecks" . -}}
{{- include "lore.rootChecks" . -}}
{{- if .Values.valkey.bundled.enabled -}}
{{- include "lore.bundledChecks" . -}}
{{- end -}}
{{- end }}

{{- define "lore.settingChecks" -}}
{{- $edge := .Values.edge.settings -}}
{{- $jwt := list "jwtIssuer" "jwtAudience" "jwtJwks" -}}
{{- $missing := list -}}
{{- range $jwt }}{{ if not (get $edge .) }}{{ $missing = append $missing . }}{{ end }}{{ end -}}
{{- if and $missing (lt (len $missing) (len $jwt)) -}}
{{- fail (printf "edge.settings.jwtIssuer, jwtAudience and jwtJwks go together: set %s, or remove the others" (join " and " $missing)) -}}
{{- end -}}
{{- $most := $edge.maxTokens | default 32768 | int -}}
{{- $default := $edge.defaultMaxTokens | default 512 | int -}}
{{- if gt $default $most -}}
{{- fail (printf "edge.settings.defaultMaxTokens (%d) is greater than edge.settings.maxTokens (%d)" $default $most) -}}
{{- end -}}
{{- $generator := .Values.generator.settings -}}
{{- $initial := $generator.windowInitial | default 32 | int -}}
{{- $maximum := $generator.windowMaximum | default 1024 | int -}}
{{- if gt $initial $maximum -}}
{{- fail (printf "generator.settings.windowInitial (%d) is greater than generator.settings.windowMaximum (%d)" $initial $maximum) -}}
{{- end -}}
{{- $lead := $generator.paceLead | default 64 | int -}}
{{- $step := $generator.paceStep | default 8 | int -}}
{{- if lt $lead (mul 2 $step | int) -}}
{{- fail (printf "generator.settings.paceLead (%d) is less than twice generator.settings.paceStep (%d)" $lead $step) -}}
{{- end -}}
{{- end }}

{{/* A container's context precedes its pod's. */}}
{{- define "lore.rootChecks" -}}
{{- $root := . -}}
{{- range $path, $values := dict "edge" .Values.edge "generator" .Values.generator "operator" .Values.operator "valkey.bundled" .Values.valkey.bundled -}}
{{- $context := include "lore.overlaid" (list $root.Values.podSecurityContext $values.podSecurityContext $root.Values.securityContext $values.securityContext) | fromYaml -}}
{{- if and $context.runAsNonRoot (hasKey $context "runAsUser") (eq (int $context.runAsUser) 0) -}}
{{- fail (printf "the security contexts of %s have runAsUser 0 and runAsNonRoot: its pods would never start. Choose another runAsUser, or set %s.podSecurityContext.runAsNonRoot to false" $path $path) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Valkey counts gb in powers of two and g in powers of ten. */}}
{{- define "lore.bundledChecks" -}}
{{- $bundled := .Values.valkey.bundled -}}
{{- if regexMatch "^[0-7]([.-]|$)" $bundled.image.tag -}}
{{- fail (printf "valkey.bundled.image.tag is %s: Lore needs Valkey 8 or newer" $bundled.image.tag) -}}
{{- end -}}
{{- $limit := dig "limits" "memory" "" $bundled.resources | toString -}}
{{- $unit := regexFind "[kmgb]*$" $bundled.maxMemory -}}
{{- $units := dict "" 1 "k" 1e3 "m" 1e6 "g" 1e9 "kb" 1024 "mb" 1048576 "gb" 1073741824 -}}
{{- $most := mulf (trimSuffix $unit $bundled.maxMemory | float64) (get $units $unit | float64) -}}
{{- if and $limit (ge $most (include "lore.bytes" $limit | float64)) -}}
{{- fail (printf "valkey.bundled.maxMemory (%s) leaves no room in valkey.bundled.resources.limits.memory (%s): Kubernetes would kill Valkey before it is full. Raise the limit to half as much again, or lower maxMemory" $bundled.maxMemory $limit) -}}
{{- end -}}
{{- end }}
