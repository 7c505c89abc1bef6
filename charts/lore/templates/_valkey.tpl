{{- define "lore.valkeyConfig" -}}
dir /data
# The log of writes holds what readers have seen; a second's worth may go with the machine,
# and generators send that again.
appendonly yes
appendfsync everysec
save ""
# Dropping keys to make room would lose answers: refuse writes instead.
maxmemory {{ .Values.valkey.bundled.maxMemory }}
maxmemory-policy noeviction
# A waiting reader costs no memory here; a stuck one must not either.
client-output-buffer-limit pubsub 32mb 8mb 60
{{- with .Values.valkey.bundled.config }}
{{ . }}
{{- end }}
{{- end }}

{{- define "lore.valkeyEnv" -}}
- name: VALKEY_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "lore.secretName" . }}
      key: valkey-password
{{/* For valkey-cli in the probes. */}}
- name: REDISCLI_AUTH
  value: $(VALKEY_PASSWORD)
{{- end }}

{{/* Everybody waits for it; but reading a large log of writes back takes its time. */}}
{{- define "lore.valkeyProbes" -}}
startup:
  exec:
    command: [valkey-cli, -e, ping]
  periodSeconds: 1
  timeoutSeconds: 5
  failureThreshold: 600
readiness:
  exec:
    command: [valkey-cli, -e, ping]
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
liveness:
  tcpSocket: {port: valkey}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end }}
