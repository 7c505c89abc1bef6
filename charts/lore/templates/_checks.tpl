{{/* Checks that a JSON schema cannot express: values that contradict each other. Each message names them. */}}

{{- define "lore.checks" -}}
{{- $edge := .Values.edge -}}
{{- $generator := .Values.generator -}}
{{- $margin := 5.0 -}}
{{- $drain := addf (float64 $edge.settings.drainDelayS) (float64 $edge.settings.drainSpreadS) -}}
{{- if ge $drain (float64 $edge.settings.graceS) -}}
{{- fail (printf "edge.settings.drainDelayS and edge.settings.drainSpreadS add up to %v s: the sum must be less than edge.settings.graceS (%v)" $drain $edge.settings.graceS) -}}
{{- end -}}
{{- $needed := addf $edge.preStopSleepSeconds $edge.settings.graceS $margin -}}
{{- if lt (float64 $edge.terminationGracePeriodSeconds) $needed -}}
{{- fail (printf "edge.terminationGracePeriodSeconds (%v) must be at least edge.preStopSleepSeconds + edge.settings.graceS + %v s, which is %v: else Kubernetes kills the edge while it still streams" $edge.terminationGracePeriodSeconds $margin $needed) -}}
{{- end -}}
{{- $needed := addf $generator.preStopSleepSeconds $generator.settings.drainS $margin -}}
{{- if lt (float64 $generator.terminationGracePeriodSeconds) $needed -}}
{{- fail (printf "generator.terminationGracePeriodSeconds (%v) must be at least generator.preStopSleepSeconds + generator.settings.drainS + %v s, which is %v: else Kubernetes kills the generator before it hands its requests back" $generator.terminationGracePeriodSeconds $margin $needed) -}}
{{- end -}}
{{- range $tier := list "edge" "generator" -}}
{{- $values := index $.Values $tier -}}
{{- if and (eq (toString $values.maxSurge) "0") (eq (toString $values.maxUnavailable) "0") -}}
{{- fail (printf "%s.maxSurge and %s.maxUnavailable are both 0: a rollout could never begin. Set one of them to 1 or more" $tier $tier) -}}
{{- end -}}
{{- $scaling := index $.Values.scaling $tier -}}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) -}}
{{- fail (printf "scaling.%s.minReplicas (%v) is greater than scaling.%s.maxReplicas (%v)" $tier $scaling.minReplicas $tier $scaling.maxReplicas) -}}
{{- end -}}
{{- end -}}
{{- if and (eq .Values.scaling.type "hpa") .Values.scaling.generator.enabled (eq (int .Values.scaling.generator.minReplicas) 0) (not .Values.scaling.hpa.toZero) -}}
{{- fail "scaling.generator.minReplicas is 0, and an HPA scales to zero only with the feature gate HPAScaleToZero. If the cluster has it, set scaling.hpa.toZero; else set scaling.type to keda, or minReplicas to 1 or more" -}}
{{- end -}}
{{- if and (ne .Values.scaling.type "none") .Values.scaling.generator.enabled (not .Values.operator.enabled) -}}
{{- fail "operator.enabled is false, and the generators' scaler needs the operator's metric of waiting requests. Set scaling.generator.enabled to false, or operator.enabled to true" -}}
{{- end -}}
{{- if and (eq .Values.scaling.type "keda") (eq (int .Values.scaling.generator.minReplicas) 0) (le (int .Values.scaling.keda.cooldownPeriod) (int .Values.operator.policy.stall.afterSeconds)) -}}
{{- fail (printf "scaling.keda.cooldownPeriod (%v) must be greater than operator.policy.stall.afterSeconds (%v): else a parked request starts the last generator again" .Values.scaling.keda.cooldownPeriod .Values.operator.policy.stall.afterSeconds) -}}
{{- end -}}
{{- include "lore.modelChecks" . -}}
{{- include "lore.valkeyChecks" . -}}
{{- include "lore.hatchChecks" . -}}
{{- include "lore.serviceChecks" . -}}
{{- include "lore.liveChecks" . -}}
{{- if and (eq .Values.exposure.type "httproute") (not .Values.exposure.httpRoute.parentRefs) -}}
{{- fail "exposure.type is httproute: set exposure.httpRoute.parentRefs to your Gateway" -}}
{{- end -}}
{{- end }}

{{- define "lore.modelChecks" -}}
{{- $generator := .Values.generator -}}
{{- $settings := $generator.settings -}}
{{- $cache := $generator.modelCache -}}
{{- $engine := $generator.engine -}}
{{- if eq $engine.type "none" -}}
{{- range $name, $value := pick $engine "url" "image" "existingSecret" -}}
{{- if $value -}}
{{- fail (printf "generator.engine.%s is set, and generator.engine.type is none: set the type to the engine's" $name) -}}
{{- end -}}
{{- end -}}
{{- else -}}
{{- if and $engine.url $engine.image -}}
{{- fail "generator.engine.url and generator.engine.image exclude each other: url is for a server elsewhere, image for a server in the generator's pod" -}}
{{- end -}}
{{- if not (or $engine.url $engine.image) -}}
{{- fail (printf "generator.engine.type is %s: set generator.engine.url, or generator.engine.image" $engine.type) -}}
{{- end -}}
{{- range ternary $engine.args list (ne $engine.image "") -}}
{{- if regexMatch "^(--host=)?(127\\.|localhost$|\\[?::1)" (toString .) -}}
{{- fail (printf "generator.engine.args has %q: the kubelet's probes do not reach a server that listens there. Let it listen on 0.0.0.0; the NetworkPolicy keeps others out" .) -}}
{{- end -}}
{{- end -}}
{{- if $settings.engine -}}
{{- fail "generator.settings.engine and generator.engine.type exclude each other" -}}
{{- end -}}
{{- end -}}
{{- if and $engine.caCertificate (not $engine.existingSecret) -}}
{{- fail "generator.engine.caCertificate is true: set generator.engine.existingSecret to the Secret that has ca.crt" -}}
{{- end -}}
{{- if and $settings.modelRevision (not (include "lore.hub" .)) -}}
{{- fail (printf "generator.settings.modelRevision is for a model from a hub, and generator.settings.model is %q: remove modelRevision" (default "" $settings.model)) -}}
{{- end -}}
{{- if and $settings.tpPlan $settings.deviceMap -}}
{{- fail "generator.settings.tpPlan and generator.settings.deviceMap exclude each other" -}}
{{- end -}}
{{- if and $settings.tpPlan (has "on" (list $settings.asyncBatching $settings.cudaGraphs)) -}}
{{- fail "generator.settings.tpPlan excludes asyncBatching: on and cudaGraphs: on" -}}
{{- end -}}
{{- if and $settings.tpPlan (not (or (has "torchrun" $generator.command) (has "torch.distributed.run" $generator.command))) -}}
{{- fail "generator.settings.tpPlan needs several ranks: set generator.command to torchrun, which starts them (see k8s/samples/values-tensor-parallel.yaml)" -}}
{{- end -}}
{{- if and $cache.enabled (not $cache.existingClaim) -}}
{{- if eq $cache.accessMode "ReadOnlyMany" -}}
{{- fail "generator.modelCache.accessMode is ReadOnlyMany: a new volume would stay empty. Fill a volume of your own, and set generator.modelCache.existingClaim to its claim" -}}
{{- end -}}
{{- $scaled := ne (include "lore.scaler" (list . "generator")) "none" -}}
{{- $most := ternary .Values.scaling.generator.maxReplicas $generator.replicas $scaled | int -}}
{{- if and (gt $most 1) (has $cache.accessMode (list "ReadWriteOnce" "ReadWriteOncePod")) -}}
{{- fail (printf "generator.modelCache.accessMode is %s, and %s is %d: generators on other nodes cannot mount the volume. Use ReadWriteMany with a storageClass that supports it, or one generator, or an image that contains the model" $cache.accessMode (ternary "scaling.generator.maxReplicas" "generator.replicas" $scaled) $most) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* These checks parse a store's URL as the services do (core/lore/store/valkey/client/location.py). No message shows
the URL, because it may contain a password. */}}
{{- define "lore.valkeyChecks" -}}
{{- $external := .Values.valkey.external -}}
{{- $tls := $external.tls -}}
{{- if .Values.valkey.bundled.enabled -}}
{{- range $name, $value := dict "url" $external.url "existingSecret" $external.existingSecret "tls.existingSecret" $tls.existingSecret -}}
{{- if $value -}}
{{- fail (printf "valkey.bundled.enabled is true, and valkey.external.%s is for a Valkey of your own: set only one of the two" $name) -}}
{{- end -}}
{{- end -}}
{{- else if not (or $external.url $external.existingSecret) -}}
{{- fail "valkey.bundled.enabled is false: set valkey.external.url or valkey.external.existingSecret" -}}
{{- else if and $external.url $external.existingSecret -}}
{{- fail "valkey.external.url and valkey.external.existingSecret exclude each other" -}}
{{- end -}}
{{- if and $tls.clientCertificate (not $tls.existingSecret) -}}
{{- fail "valkey.external.tls.clientCertificate is true: set valkey.external.tls.existingSecret to the Secret that has tls.crt and tls.key" -}}
{{- end -}}
{{- if $external.url -}}
{{- include "lore.valkeyUrlChecks" . -}}
{{- end -}}
{{- end }}

{{- define "lore.valkeyUrlChecks" -}}
{{- $external := .Values.valkey.external -}}
{{- $scheme := regexFind "^[^:]+" $external.url -}}
{{- $rest := trimPrefix (printf "%s://" $scheme) $external.url -}}
{{- $authority := regexFind "^[^/?#]*" $rest -}}
{{- $path := trimAll "/" (regexFind "^[^?#]*" (trimPrefix $authority $rest)) -}}
{{- $hosts := splitList "," (regexReplaceAll "^.*@" $authority "") -}}
{{- $sentinel := hasSuffix "+sentinel" $scheme -}}
{{- if or (regexMatch ":[^@]*@" $authority) (contains "password=" $external.url) -}}
{{- fail "valkey.external.url has a password, and values are not secret: put the whole URLs into a Secret, and set valkey.external.existingSecret to its name" -}}
{{- end -}}
{{- if and (not (contains "+" $scheme)) (gt (len $hosts) 1) -}}
{{- fail "valkey.external.url names several servers: begin it with valkey+cluster:// or valkey+sentinel://" -}}
{{- end -}}
{{- if and $sentinel (or (not $path) (contains "/" $path)) -}}
{{- fail "valkey.external.url must end with the name of the service that the sentinels watch, such as /mine" -}}
{{- end -}}
{{- if and (not $sentinel) (not (regexMatch "^[0-9]*$" $path)) -}}
{{- fail "valkey.external.url may only end with the number of a database, such as /0" -}}
{{- end -}}
{{- if and (hasSuffix "+cluster" $scheme) (not (regexMatch "^0*$" $path)) -}}
{{- fail "valkey.external.url names a database, and a cluster has only database 0" -}}
{{- end -}}
{{- if $external.tls.existingSecret -}}
{{- if not (hasPrefix "valkeys" $scheme) -}}
{{- fail (printf "valkey.external.tls.existingSecret is set, and valkey.external.url begins with %s:// which does not use TLS" $scheme) -}}
{{- end -}}
{{- range list "ssl_ca_certs" "ssl_certfile" "ssl_keyfile" -}}
{{- if contains (printf "%s=" .) $external.url -}}
{{- fail (printf "valkey.external.url has %s, which valkey.external.tls also sets: remove one of the two" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if .Values.networkPolicy.enabled -}}
{{- $open := list -}}
{{- range $external.ports }}{{ $open = append $open (int .) }}{{ end -}}
{{- $others := $open -}}
{{- range $hosts -}}
{{- $port := default (ternary "26379" "6379" $sentinel) (regexFind "[0-9]+$" (regexFind ":[0-9]+$" .)) -}}
{{- $others = without $others (int $port) -}}
{{- if not (has (int $port) $open) -}}
{{- fail (printf "valkey.external.url leads to port %s, which is not in valkey.external.ports %v: the NetworkPolicies would block it" $port $external.ports) -}}
{{- end -}}
{{- end -}}
{{- if and $sentinel (not $others) -}}
{{- fail (printf "valkey.external.ports %v has only the sentinels' ports: add the servers' port" $external.ports) -}}
{{- end -}}
{{- end -}}
{{- end }}
