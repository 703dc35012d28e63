{{- define "gauntlet.secret" -}}
{{ .Values.secret.name | default .Release.Name }}
{{- end -}}

{{- /* The resources of a container, with .gpus GPUs. */ -}}
{{- define "gauntlet.resources" -}}
{{- $limits := deepCopy .resources.limits -}}
{{- if .gpus }}{{ $limits = set $limits "nvidia.com/gpu" (.gpus | toString) }}{{ end -}}
requests: {{- toYaml .resources.requests | nindent 2 }}
limits: {{- toYaml $limits | nindent 2 }}
{{- end -}}

{{- /* The fields that all pods share. */ -}}
{{- define "gauntlet.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false # they would set GAUNTLET_PORT
securityContext:
  runAsNonRoot: true
  runAsUser: 1034 # bentoml in the image
  runAsGroup: 1034
  fsGroup: 1034
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: state # lock files, proofs of certificates, counters and rates, all recreated when missing; the jobs are in PostgreSQL
    emptyDir: {sizeLimit: 64Mi}
{{- if .Values.store.size }}
  - name: store
    persistentVolumeClaim: {claimName: {{ .Release.Name }}-store}
{{- end }}
  - name: tmp
    emptyDir: {sizeLimit: 4Gi} # twice GAUNTLET_MAX_UPLOAD for each of up to four API processes, and copies of one upload
  - name: keys
    secret:
      secretName: {{ include "gauntlet.secret" . }}
      items: [{key: keys, path: keys}]
{{- end -}}

{{- define "gauntlet.image" -}}
{{- if .Values.image.digest }}
image: {{ printf "%s@%s" .Values.image.repository .Values.image.digest | quote }}
{{- else }}
image: {{ printf "%s:%s" .Values.image.repository .Values.image.tag | quote }}
{{- end }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end -}}

{{- define "gauntlet.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- /* The fields that all containers share, except the one for migrations. */ -}}
{{- define "gauntlet.container" -}}
{{ include "gauntlet.image" . }}
envFrom:
  - configMapRef: {name: {{ .Release.Name }}}
securityContext: {{- include "gauntlet.confined" . | nindent 2 }}
volumeMounts:
  - {name: state, mountPath: /var/lib/gauntlet}
{{- if .Values.store.size }}
  - {name: store, mountPath: /var/lib/gauntlet-store}
{{- end }}
  - {name: tmp, mountPath: /tmp}
  - {name: keys, mountPath: /etc/gauntlet, readOnly: true}
{{- end -}}

{{- /* Environment variables of these containers. */ -}}
{{- define "gauntlet.variables" -}}
- name: GAUNTLET_DATABASE_URL
  valueFrom:
    secretKeyRef: {name: {{ include "gauntlet.secret" .root }}, key: database-url}
- name: GAUNTLET_THREADS # the node may have many more cores than the pod
  valueFrom:
    resourceFieldRef: {resource: limits.cpu}
{{- if .gpus }}
- {name: GAUNTLET_DEVICE, value: cuda}
{{- end }}
{{- end -}}
