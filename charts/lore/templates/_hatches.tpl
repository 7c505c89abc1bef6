{{/* What can be bent in every workload, a template for each. A context is
(list $ "edge" .Values.edge): a component, and the values that it follows. */}}

{{/* Dicts over one another; what is null in a later one goes. */}}
{{- define "lore.overlaid" -}}
{{- $whole := dict -}}
{{- range . -}}
{{- range $name, $value := . -}}
{{- if kindIs "invalid" $value -}}
{{- $_ := unset $whole $name -}}
{{- else -}}
{{- $_ := set $whole $name $value -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $whole -}}
{{- end }}

{{/* A pod's labels and annotations. Without versions: a new chart restarts only the pods that it
changes; and with checksums: what a pod reads once restarts it. */}}
{{- define "lore.podMetadata" -}}
{{- $ := index . 0 -}}
{{- $labels := merge (include "lore.selector" . | fromYaml) (index . 2).podLabels $.Values.labels -}}
labels:
  {{- merge $labels (dict "app.kubernetes.io/part-of" "lore") | toYaml | nindent 2 }}
{{- with merge (dict) (index . 2).podAnnotations (include "lore.checksums" . | fromYaml) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The fields of a pod that are not its containers. */}}
{{- define "lore.podFields" -}}
{{- $root := index . 0 -}}
{{- $values := index . 2 -}}
enableServiceLinks: false
securityContext:
  {{- include "lore.overlaid" (list $root.Values.podSecurityContext $values.podSecurityContext) | nindent 2 }}
{{- $pull := list -}}
{{- range concat $root.Values.image.pullSecrets $root.Values.global.imagePullSecrets -}}
{{- $pull = append $pull (ternary (dict "name" .) . (kindIs "string" .)) -}}
{{- end -}}
{{- with $pull | uniq }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- range $name := list "nodeSelector" "tolerations" "affinity" "resourceClaims" "initContainers" -}}
{{- with index $values $name }}
{{ $name }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with $values.topologySpread }}
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

{{/* A hook's, from the values of the component whose image it runs. */}}
{{- define "lore.hookFields" -}}
{{- $only := pick (index . 2) "podSecurityContext" "priorityClassName" "nodeSelector" "tolerations" "affinity" -}}
{{- include "lore.podFields" (list (index . 0) (index . 1) $only) -}}
{{- end }}

{{- define "lore.containerSecurity" -}}
securityContext:
  {{- include "lore.overlaid" (list (index . 0).Values.securityContext (index . 2).securityContext) | nindent 2 }}
{{- end }}

{{/* The chart's variables (YAML, the fourth), and the user's, which replace those of the same name
where these stand: a variable may name one before it. */}}
{{- define "lore.env" -}}
{{- $theirs := dict -}}
{{- range (index . 2).env }}{{ $_ := set $theirs .name . }}{{ end -}}
{{- $env := list -}}
{{- $known := list -}}
{{- range index . 3 | fromYamlArray -}}
{{- $env = append $env (default . (get $theirs .name)) -}}
{{- $known = append $known .name -}}
{{- end -}}
{{- range (index . 2).env -}}
{{- if not (has .name $known) -}}
{{- $env = append $env . -}}
{{- end -}}
{{- end -}}
env:
  {{- toYaml $env | nindent 2 }}
{{- end }}

{{/* The chart's probes (YAML, the fourth: startup, liveness, readiness) with the user's fields over
them. A handler of theirs replaces the chart's; a probe that is null goes. */}}
{{- define "lore.probes" -}}
{{- $chart := index . 3 | fromYaml -}}
{{- range $name := list "startup" "liveness" "readiness" -}}
{{- $theirs := index (index $ 2).probes $name -}}
{{- $ours := index $chart $name | default dict -}}
{{- if and (kindIs "map" $theirs) (or $theirs $ours) -}}
{{- if hasKey $chart $name | not -}}
{{- $ours = pick $chart.readiness "httpGet" "exec" -}}
{{- end -}}
{{- range $handler := list "exec" "grpc" "httpGet" "tcpSocket" -}}
{{- if hasKey $theirs $handler -}}
{{- $ours = omit $ours "exec" "grpc" "httpGet" "tcpSocket" -}}
{{- end -}}
{{- end }}
{{ $name }}Probe:
  {{- include "lore.overlaid" (list $ours $theirs) | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* The health port answers from a thread of its own, so a busy pod passes; the long timeouts are
for nodes that are short of CPU. */}}
{{- define "lore.healthProbes" -}}
liveness:
  httpGet: {path: /livez, port: health}
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: 6
readiness:
  httpGet: {path: /readyz, port: health}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 2
{{- end }}

{{- define "lore.sidecars" -}}
{{- with (index . 2).sidecars }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Mounts behind a container's own: files for TLS to the store, and the user's. */}}
{{- define "lore.moreMounts" -}}
{{- if and (ne (index . 1) "valkey") (index . 0).Values.valkey.external.tls.existingSecret }}
- name: valkey-tls
  mountPath: /etc/lore/valkey-tls
  readOnly: true
{{- end }}
{{- with (index . 2).extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "lore.moreVolumes" -}}
{{- $tls := (index . 0).Values.valkey.external.tls -}}
{{- if and (ne (index . 1) "valkey") $tls.existingSecret }}
# A folder and not single files: renewed certificates reach it without a restart.
- name: valkey-tls
  secret:
    secretName: {{ $tls.existingSecret }}
    items:
      - {key: ca.crt, path: ca.crt}
      {{- if $tls.clientCertificate }}
      - {key: tls.crt, path: tls.crt}
      - {key: tls.key, path: tls.key}
      {{- end }}
    defaultMode: 0440
{{- end }}
{{- with (index . 2).extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The account's name; "default" where none is made and none is named. */}}
{{- define "lore.serviceAccount" -}}
{{- $account := (index . 2).serviceAccount -}}
{{ default (ternary (include "lore.component" .) "default" $account.create) $account.name }}
{{- end }}
