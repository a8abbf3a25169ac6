{{- define "p2pnet.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "p2pnet.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "p2pnet.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "p2pnet.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "p2pnet.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "p2pnet.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "p2pnet.selector" -}}
app.kubernetes.io/name: {{ include "p2pnet.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "p2pnet.labels" -}}
{{ include "p2pnet.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* (dict "image" .Values.image "chart" .Chart): repository@digest, else repository:tag */}}
{{- define "p2pnet.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ default .chart.AppVersion .image.tag }}
{{- end -}}
{{- end }}

{{- /* The namespaces served under scope "namespace", separated by commas. */}}
{{- define "p2pnet.namespaces" -}}
{{- if eq .Values.scope "namespace" -}}
{{- join "," (default (list .Release.Namespace) .Values.watchNamespaces) -}}
{{- else if .Values.watchNamespaces -}}
{{- fail "watchNamespaces needs scope: namespace" -}}
{{- end -}}
{{- end }}

{{- define "p2pnet.restricted" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
{{- end }}

{{- define "p2pnet.nonroot" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}
