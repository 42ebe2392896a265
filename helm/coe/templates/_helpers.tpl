{{/* Names and labels */}}

{{- define "coe.name" -}}
{{- /* Of everything; the operator appends to it, so it is short. It must begin with a letter. */ -}}
{{- if contains "coe" .Release.Name -}}
{{- .Release.Name | trunc 36 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-coe" (.Release.Name | trunc 32 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "coe.selector" -}}
app.kubernetes.io/name: coe
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{- define "coe.labels" -}}
{{ include "coe.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: coe
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "coe.image" -}}
{{- /* root, and what differs: repository, tag, digest */ -}}
{{- $image := mustMergeOverwrite (dict) .root.Values.image (.own | default dict) -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository ($image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "coe.head" -}}
{{- /* The operator makes this Service once the keeper runs. */ -}}
{{ include "coe.name" . }}-ray-head-svc
{{- end -}}

{{/* What every pod has */}}

{{- define "coe.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.security.runAsUser }}
runAsGroup: {{ .Values.security.runAsGroup }}
fsGroup: {{ .Values.security.fsGroup }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "coe.containerSecurity" -}}
runAsNonRoot: true
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
privileged: false
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "coe.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "coe.scheduling" -}}
{{- with .own.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .own.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .own.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- define "coe.spread" -}}
{{- /* Over machines and zones, as far as these have room. */ -}}
topologySpreadConstraints:
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "coe.selector" $ | nindent 8 }}
        {{- with $.group }}
        coe/group: {{ . }}
        {{- end }}
{{- end }}
{{- end -}}

{{/* Environment of what runs on Ray; `orchestrator/cluster.py` has the same for processes that it starts. */}}

{{- define "coe.rayEnv" -}}
- {name: HOME, value: /var/lib/coe}
- {name: COE_HOME, value: /var/lib/coe}
- {name: COE_CONFIG, value: /etc/coe/coe.yaml}
- {name: RAY_SERVE_THROUGHPUT_OPTIMIZED, value: "1"}
- {name: RAY_SERVE_ENABLE_DIRECT_INGRESS, value: "0"}
- {name: RAY_SERVE_COLLECT_AUTOSCALING_METRICS_ON_HANDLE, value: "0"}
- {name: RAY_USAGE_STATS_ENABLED, value: "0"}
- {name: RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO, value: "0"}
- {name: RAY_gcs_rpc_server_reconnect_timeout_s, value: "600"}
{{- end -}}

{{- define "coe.joinEnv" -}}
{{- /* Of pods that the operator does not make: gateways. */ -}}
{{ include "coe.rayEnv" . }}
- {name: RAY_ADDRESS, value: "{{ include "coe.head" . }}:6379"}
{{- if .Values.ray.tokenAuth }}
- {name: RAY_AUTH_MODE, value: token}
- name: RAY_AUTH_TOKEN
  valueFrom: {secretKeyRef: {name: {{ .Values.ray.tokenSecret }}, key: auth_token}}
{{- else }}
- {name: RAY_AUTH_MODE, value: disabled}
{{- end }}
{{- end -}}

{{- define "coe.join" -}}
{{- /* The pod becomes a node of the Ray cluster that offers nothing. Its daemons end with the container. */ -}}
trap 'exit 0' TERM
until ray health-check --address "$RAY_ADDRESS" > /dev/null 2>&1; do echo "waiting for Ray at $RAY_ADDRESS"; sleep 2; done
ray start --address="$RAY_ADDRESS" --num-cpus=0 --num-gpus=0 --object-store-memory=100000000 --disable-usage-stats
{{- end -}}

{{- define "coe.redisEnv" -}}
{{- if .Values.redis.bundled.enabled }}
- name: REDIS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ .Values.redis.secret }}, key: {{ .Values.redis.passwordKey }}}}
- {name: COE_REDIS_URL, value: "redis://:$(REDIS_PASSWORD)@{{ include "coe.name" . }}-redis:6379/0"}
{{- else }}
- name: COE_REDIS_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.redis.secret }}, key: {{ .Values.redis.urlKey }}}}
{{- end }}
{{- end -}}

{{/* Volumes of every container of ours: what is written goes to /tmp, /var/lib/coe and /dev/shm. */}}

{{- define "coe.mounts" -}}
- {name: config, mountPath: /etc/coe, readOnly: true}
- {name: tmp, mountPath: /tmp}
- {name: home, mountPath: /var/lib/coe}
- {name: shm, mountPath: /dev/shm}
{{- if .Values.models.volume }}
- {name: models, mountPath: {{ .Values.models.mountPath }}, readOnly: true}
{{- end }}
{{- end -}}

{{- define "coe.volumes" -}}
{{- /* root; shm: size of /dev/shm; home: a volume source */ -}}
- name: config
  configMap: {name: {{ include "coe.name" .root }}}
- name: tmp
  emptyDir: {sizeLimit: 5Gi}
- name: home {{- toYaml .home | nindent 2 }}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ .shm }}}
{{- with .root.Values.models.volume }}
- name: models {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "coe.peer" -}}
- podSelector:
    matchLabels: {{- include "coe.selector" . | nindent 6 }}
{{- end -}}
