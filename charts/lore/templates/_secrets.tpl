{{/* What pods read from Secrets, and the checksums that restart those who read it once. */}}

{{- define "lore.secretName" -}}
{{ default (include "lore.fullname" .) .Values.secrets.existing }}
{{- end }}

{{/* The generated Secret's data, made once in a rendering. An upgrade keeps what is there, keys that
were added to api-keys included. */}}
{{- define "lore.secretData" -}}
{{- if not (hasKey .Values "secretData") -}}
{{- $old := (lookup "v1" "Secret" .Release.Namespace (include "lore.secretName" .)).data | default dict -}}
{{- $key := index $old "api-key" | default "" | b64dec | default (printf "lore_%s" (randAlphaNum 43)) -}}
{{- $first := printf "%s first-user\n" (sha256sum $key) -}}
{{- $data := dict "api-key" (b64enc $key) -}}
{{- $_ := set $data "api-keys" (index $old "api-keys" | default (b64enc $first)) -}}
{{- $_ := set $data "secret" (index $old "secret" | default (randAlphaNum 48 | b64enc)) -}}
{{- $_ := set $data "valkey-password" (index $old "valkey-password" | default (randAlphaNum 40 | b64enc)) -}}
{{- $_ := set .Values "secretData" $data -}}
{{- end -}}
{{- toYaml .Values.secretData -}}
{{- end }}

{{/* What a component has from a Secret as a variable, and so reads once; API keys and certificates
are files that it reads again. Of a Secret of the user's, what the cluster has, with the Secret's
uid, as a password of theirs may be short enough to be found by trying. */}}
{{- define "lore.readOnce" -}}
{{- $ := index . 0 -}}
{{- $component := index . 1 -}}
{{- $data := dict -}}
{{- if $.Values.secrets.existing -}}
{{- $theirs := lookup "v1" "Secret" $.Release.Namespace $.Values.secrets.existing -}}
{{- with $theirs.data }}{{ $data = merge (dict "uid" $theirs.metadata.uid) . }}{{ end -}}
{{- else -}}
{{- $data = include "lore.secretData" $ | fromYaml -}}
{{- end -}}
{{- if eq $component "edge" }}{{ pick $data "uid" "secret" | toJson }}{{ end -}}
{{- $external := $.Values.valkey.external -}}
{{- if $.Values.valkey.bundled.enabled -}}
{{ pick $data "uid" "valkey-password" | toJson }}
{{- else if $external.existingSecret -}}
{{- $theirs := lookup "v1" "Secret" $.Release.Namespace $external.existingSecret -}}
{{- with $theirs.data -}}
{{ list $theirs.metadata.uid (get . (index $external.keys $component)) | toJson }}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "lore.checksums" -}}
{{- if not (has (index . 1) (list "wait" "test")) -}}
{{- with include "lore.readOnce" . | replace "{}" "" }}
checksum/secrets: {{ sha256sum . }}
{{- end }}
{{- end }}
{{- if eq (index . 1) "valkey" }}
checksum/config: {{ include "lore.valkeyConfig" (index . 0) | sha256sum }}
{{- end }}
{{- end }}

{{/* What pods need from Secrets of the user's and the cluster does not have: a YAML list of sentences. */}}
{{- define "lore.missingSecrets" -}}
{{- $needed := dict -}}
{{- with .Values.secrets.existing -}}
{{- $keys := list "secret" -}}
{{- if ne $.Values.edge.settings.auth "off" }}{{ $keys = append $keys "api-keys" }}{{ end -}}
{{- if $.Values.valkey.bundled.enabled }}{{ $keys = append $keys "valkey-password" }}{{ end -}}
{{- $_ := set $needed . $keys -}}
{{- end -}}
{{- $external := .Values.valkey.external -}}
{{- with $external.existingSecret -}}
{{- $_ := set $needed . (concat (get $needed . | default list) (values $external.keys)) -}}
{{- end -}}
{{- with $external.tls.existingSecret -}}
{{- $files := ternary (list "ca.crt" "tls.crt" "tls.key") (list "ca.crt") $external.tls.clientCertificate -}}
{{- $_ := set $needed . (concat (get $needed . | default list) $files) -}}
{{- end -}}
{{- with .Values.generator.engine.existingSecret -}}
{{- $files := ternary (list "key" "ca.crt") (list "key") $.Values.generator.engine.caCertificate -}}
{{- $_ := set $needed . (concat (get $needed . | default list) $files) -}}
{{- end -}}
{{- $missing := list -}}
{{- range $name, $keys := $needed -}}
{{- $data := (lookup "v1" "Secret" $.Release.Namespace $name).data | default dict -}}
{{- $without := list -}}
{{- range $keys | uniq | sortAlpha }}{{ if not (hasKey $data .) }}{{ $without = append $without . }}{{ end }}{{ end -}}
{{- if $without -}}
{{- $missing = append $missing (printf "%s, with %s" $name (join ", " $without)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $missing -}}
{{- end }}
