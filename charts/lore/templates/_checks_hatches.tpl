{{/* Checks of the values that extend the chart's objects. Without them, Kubernetes would refuse the
object, or worse, accept it. */}}

{{- define "lore.hatchChecks" -}}
{{- $ours := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/managed-by" "app.kubernetes.io/version" "helm.sh/chart" -}}
{{- range $label := $ours -}}
{{- if hasKey $.Values.labels $label -}}
{{- fail (printf "labels has %s, which the chart sets: choose another name" $label) -}}
{{- end -}}
{{- end -}}
{{- $volumes := dict "edge" (list "tmp" "keys" "valkey-tls") "generator" (list "tmp" "shm" "models" "engine" "engine-tmp" "valkey-tls") "operator" (list "tmp" "valkey-tls") "valkey.bundled" (list "config" "data") -}}
{{- $workloads := dict "edge" .Values.edge "generator" .Values.generator "operator" .Values.operator "valkey.bundled" .Values.valkey.bundled -}}
{{- range $path, $values := $workloads -}}
{{- range $label := $ours -}}
{{- if hasKey $values.podLabels $label -}}
{{- fail (printf "%s.podLabels has %s, which the chart sets: choose another name" $path $label) -}}
{{- end -}}
{{- end -}}
{{- $known := index $volumes $path -}}
{{- range $values.extraVolumes -}}
{{- if has .name $known -}}
{{- fail (printf "%s.extraVolumes has a volume named %s, and there is already one: choose another name" $path .name) -}}
{{- end -}}
{{- $known = append $known .name -}}
{{- end -}}
{{- range $values.extraVolumeMounts -}}
{{- if not (has .name $known) -}}
{{- fail (printf "%s.extraVolumeMounts mounts %s, which is not in %s.extraVolumes" $path .name $path) -}}
{{- end -}}
{{- end -}}
{{- $containers := list (trimSuffix ".bundled" $path) -}}
{{- if eq $path "generator" }}{{ $containers = append $containers "engine" }}{{ end -}}
{{- range concat $values.initContainers $values.sidecars -}}
{{- if has .name $containers -}}
{{- fail (printf "%s.initContainers or sidecars has a container named %s, and there is already one: choose another name" $path .name) -}}
{{- end -}}
{{- $containers = append $containers .name -}}
{{- end -}}
{{- $claims := list -}}
{{- range $values.resourceClaims }}{{ $claims = append $claims .name }}{{ end -}}
{{- range $values.resources.claims -}}
{{- if not (has .name $claims) -}}
{{- fail (printf "%s.resources.claims uses %s, which is not in %s.resourceClaims" $path .name $path) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $account := .Values.operator.serviceAccount -}}
{{- if and .Values.operator.enabled (not $account.create) (not $account.name) -}}
{{- fail "operator.serviceAccount.create is false: set operator.serviceAccount.name to your account. Without it, the operator's rights would go to the account default, which other pods of the namespace use" -}}
{{- end -}}
{{- end }}
