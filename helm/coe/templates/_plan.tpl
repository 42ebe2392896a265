{{/* Which group of workers serves what, and the coe.yaml that says so to Ray. */}}

{{- define "coe.group" -}}
{{- /* The values of a group with workerDefaults below them, as YAML: root, name. */ -}}
{{- toYaml (mustMergeOverwrite (dict) (deepCopy .root.Values.workerDefaults) (deepCopy (index .root.Values.workers .name | default dict))) -}}
{{- end -}}

{{- define "coe.families" -}}
{{- /* Family -> its device, or "" if it has none, as YAML. An expert without a family goes with its base, else alone. */ -}}
{{- $config := .Values.config -}}
{{- $found := dict -}}
{{- range $config.experts -}}
{{- $_ := set $found (.family | default .base | default .name) "" -}}
{{- else -}}
{{- $_ := set $found "smollm2-135m" "" -}}
{{- end -}}
{{- range $family, $own := $config.families -}}
{{- if hasKey $found $family -}}
{{- $_ := set $found $family ($own.device | default "") -}}
{{- end -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}

{{- define "coe.assigned" -}}
{{- /* "families" and "devices" -> name -> group, as YAML. Fails where something has no group, or two. */ -}}
{{- $root := . -}}
{{- $families := include "coe.families" . | fromYaml -}}
{{- $assigned := dict "families" dict "devices" dict -}}
{{- $rest := "" -}}
{{- range $name := keys .Values.workers | sortAlpha -}}
{{- $group := include "coe.group" (dict "root" $root "name" $name) | fromYaml -}}
{{- if not (or $group.families $group.devices) -}}
{{- if $rest -}}
{{- fail (printf "workers.%s and workers.%s name no families: one group at most takes those that are left; name `families` or `devices` in the others" $rest $name) -}}
{{- end -}}
{{- $rest = $name -}}
{{- end -}}
{{- range $family := $group.families -}}
{{- if not (hasKey $families $family) -}}
{{- fail (printf "workers.%s.families: %q is no family of config.experts; there are: %s" $name $family (keys $families | sortAlpha | join ", ")) -}}
{{- end -}}
{{- if get $families $family -}}
{{- fail (printf "workers.%s.families: %q is on the device %q: name that in `devices`" $name $family (get $families $family)) -}}
{{- end -}}
{{- if hasKey $assigned.families $family -}}
{{- fail (printf "workers.%s.families: %q is in the group %q already" $name $family (get $assigned.families $family)) -}}
{{- end -}}
{{- $_ := set $assigned.families $family $name -}}
{{- end -}}
{{- range $device := $group.devices -}}
{{- if not (hasKey ($root.Values.config.devices | default dict) $device) -}}
{{- fail (printf "workers.%s.devices: %q is not in config.devices" $name $device) -}}
{{- end -}}
{{- if hasKey $assigned.devices $device -}}
{{- fail (printf "workers.%s.devices: %q is in the group %q already" $name $device (get $assigned.devices $device)) -}}
{{- end -}}
{{- $_ := set $assigned.devices $device $name -}}
{{- end -}}
{{- end -}}
{{- range $family, $device := $families -}}
{{- $kind := $device | empty | ternary "families" "devices" -}}
{{- $what := $device | default $family -}}
{{- if not (hasKey (get $assigned $kind) $what) -}}
{{- if not $rest -}}
{{- fail (printf "no group of `workers` serves %q: name it in workers.<group>.%s, or have a group that names none" $what $kind) -}}
{{- end -}}
{{- $_ := set (get $assigned $kind) $what $rest -}}
{{- end -}}
{{- end -}}
{{- toYaml $assigned -}}
{{- end -}}

{{- define "coe.yaml" -}}
{{- /* coe.yaml: values.config, bound to the groups' pods by a resource that only those have. Fails where pods are too small. */ -}}
{{- include "coe.check" . -}}
{{- $root := . -}}
{{- $config := deepCopy .Values.config -}}
{{- $assigned := include "coe.assigned" . | fromYaml -}}
{{- $taken := dict -}}
{{- range $kind := list "families" "devices" -}}
{{- $section := get $config $kind | default dict -}}
{{- range $name, $groupName := get $assigned $kind -}}
{{- $group := include "coe.group" (dict "root" $root "name" $groupName) | fromYaml -}}
{{- $pods := $root.Values.ray.autoscaling.enabled | ternary $group.minReplicas $group.replicas | int -}}
{{- $own := get $section $name | default dict -}}
{{- $_ := set $own "resources" (merge (dict (printf "coe-%s" $groupName) 0.001) ($own.resources | default dict)) -}}
{{- if and $own.autoscaling (hasKey $own "replicas") -}}
{{- fail (printf "config.%s.%s: both replicas and autoscaling, which has min_replicas and max_replicas: leave one out" $kind $name) -}}
{{- end -}}
{{- if not (or $own.autoscaling (hasKey $own "replicas")) -}}
{{- $_ := set $own "replicas" (max 1 $pods) -}}
{{- end -}}
{{- $number := $own.autoscaling | empty | ternary $own.replicas (get ($own.autoscaling | default dict) "max_replicas") -}}
{{- $_ := set $section $name $own -}}
{{- $sum := get $taken $groupName | default (dict "cpu" 0.0 "gpu" 0.0) -}}
{{- $cpus := hasKey $own "num_cpus" | ternary $own.num_cpus 1.0 -}}
{{- $gpus := hasKey $own "num_gpus" | ternary $own.num_gpus 0.0 -}}
{{- $_ := set $sum "cpu" (addf $sum.cpu (mulf $cpus $number)) -}}
{{- $_ := set $sum "gpu" (addf $sum.gpu (mulf $gpus $number)) -}}
{{- $_ := set $taken $groupName $sum -}}
{{- end -}}
{{- if $section -}}
{{- $_ := set $config $kind $section -}}
{{- end -}}
{{- end -}}
{{- range $groupName, $sum := $taken -}}
{{- $group := include "coe.group" (dict "root" $root "name" $groupName) | fromYaml -}}
{{- $most := $root.Values.ray.autoscaling.enabled | ternary $group.maxReplicas $group.replicas | int -}}
{{- $limits := $group.resources.limits -}}
{{- $cpu := $limits.cpu | toString -}}
{{- $cores := hasSuffix "m" $cpu | ternary (divf (trimSuffix "m" $cpu | float64) 1000.0) ($cpu | float64) -}}
{{- $gpus := get $limits "nvidia.com/gpu" | default 0 | toString | float64 -}}
{{- range $what := list (dict "is" "GPUs" "wanted" $sum.gpu "has" $gpus "key" "num_gpus") (dict "is" "CPU cores" "wanted" $sum.cpu "has" $cores "key" "num_cpus") -}}
{{- if gt (float64 $what.wanted) (addf (mulf (float64 $what.has) $most) 0.000001) -}}
{{- fail (printf "workers.%s: its workers want %v %s and its %d pods have %v each: raise its replicas or resources.limits, or lower `replicas`, `autoscaling.max_replicas` or %s of its families in config" $groupName $what.wanted $what.is $most $what.has $what.key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $batch := $config.batch | default dict -}}
{{- if and .Values.batch.volume (not $batch.files_url) -}}
{{- $_ := set $batch "files_url" "file:///var/lib/coe-batch" -}}
{{- end -}}
{{- if not $batch.files_url -}}
{{- $_ := set $batch "enabled" false -}}
{{- end -}}
{{- $_ := set $config "batch" $batch -}}
{{- $server := $config.server | default dict -}}
{{- $_ := set $server "host" "0.0.0.0" -}}
{{- $_ := set $server "port" 8000 -}}
{{- if .Values.gateway.tlsSecret -}}
{{- $_ := set $server "tls_cert" "/etc/coe-tls/tls.crt" -}}
{{- $_ := set $server "tls_key" "/etc/coe-tls/tls.key" -}}
{{- end -}}
{{- $_ := set $config "server" $server -}}
{{- toYaml $config -}}
{{- end -}}

{{- define "coe.serve" -}}
{{- /* What the operator hands to Serve: the keeper alone, which deploys the workers. Another coe.yaml starts nothing anew. */ -}}
proxy_location: Disabled
logging_config: {enable_access_log: false, log_level: WARNING}
applications:
  - name: keeper
    import_path: orchestrator.keeper:application
    route_prefix: null
    deployments:
      - name: keeper
        num_replicas: 1
        ray_actor_options: {num_cpus: 0, resources: {coe-keeper: 0.001}}
        user_config:
          fake: {{ .Values.fake }}
          coe.yaml: |
            {{- include "coe.yaml" . | nindent 12 }}
{{- end -}}

{{- define "coe.drain" -}}
{{- /* Seconds for requests under way, rounded up. */ -}}
{{- ceil (.Values.config.limits.drain_s | float64) | int -}}
{{- end -}}

{{- define "coe.check" -}}
{{- /* What the schema cannot tell. */ -}}
{{- if not .Values.workers -}}
{{- fail "workers: there is no group of pods for the models; start from a profile: -f helm/coe/values-cpu.yaml" -}}
{{- end -}}
{{- if and .Values.redis.bundled.enabled .Values.redis.address -}}
{{- fail "redis: both an address and the bundled Redis; leave one out" -}}
{{- end -}}
{{- if not (or .Values.redis.bundled.enabled .Values.redis.address) -}}
{{- fail "redis.address: missing; name an external Redis (HOST:PORT), or set redis.bundled.enabled to try things out" -}}
{{- end -}}
{{- if and .Values.redis.address .Values.networkPolicy.enabled (not .Values.networkPolicy.redisEgress) -}}
{{- fail "networkPolicy.redisEgress: missing; it opens the way to the external Redis, e.g. [{to: [{ipBlock: {cidr: 10.0.0.7/32}}], ports: [{port: 6379}]}]" -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.operator) -}}
{{- fail "networkPolicy.operator: missing; KubeRay's operator must reach Ray's dashboard: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kuberay}}}]" -}}
{{- end -}}
{{- if and .Values.ray.autoscaling.enabled .Values.networkPolicy.enabled (not .Values.networkPolicy.apiServer) -}}
{{- fail "networkPolicy.apiServer: missing; ray.autoscaling asks the Kubernetes API, whose address `kubectl get endpoints kubernetes` tells: [{ipBlock: {cidr: ADDRESS/32}}]" -}}
{{- end -}}
{{- if and .Values.monitoring.serviceMonitor.enabled .Values.networkPolicy.enabled (not .Values.networkPolicy.monitoring) -}}
{{- fail "networkPolicy.monitoring: missing; name the namespace of Prometheus: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]" -}}
{{- end -}}
{{- $batch := .Values.config.batch | default dict -}}
{{- if and $batch.enabled (not (or $batch.files_url .Values.batch.volume)) -}}
{{- fail "batch.volume: missing; batches need files that all gateways share: name a volume, or config.batch.files_url" -}}
{{- end -}}
{{- range $name, $own := .Values.workers -}}
{{- $group := include "coe.group" (dict "root" $ "name" $name) | fromYaml -}}
{{- if gt (int $group.minReplicas) (int $group.maxReplicas) -}}
{{- fail (printf "workers.%s: minReplicas %v is above maxReplicas %v" $name $group.minReplicas $group.maxReplicas) -}}
{{- end -}}
{{- end -}}
{{- end -}}
