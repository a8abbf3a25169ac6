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
{{- /* By which an installation is found, whatever nameOverride makes of the others; in no selector, for those cannot change. */}}
p2pnet.io/component: operator
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* (list $ .Values.image): repository@digest, else repository:tag; global.imageRegistry stands for the registry. */}}
{{- define "p2pnet.image" -}}
{{- $root := first . -}}
{{- $image := last . -}}
{{- $repository := $image.repository -}}
{{- with ($root.Values.global).imageRegistry -}}
{{- $parts := splitList "/" $repository -}}
{{- /* As pullers tell a registry from a folder: it has a dot or a port, or is localhost. */}}
{{- if and (gt (len $parts) 1) (or (regexMatch "[.:]" (first $parts)) (eq (first $parts) "localhost")) -}}
{{- $parts = rest $parts -}}
{{- end -}}
{{- $repository = join "/" (prepend $parts .) -}}
{{- end -}}
{{- if $image.digest -}}
{{ $repository }}@{{ $image.digest }}
{{- else -}}
{{ $repository }}:{{ default $root.Chart.AppVersion $image.tag }}
{{- end -}}
{{- end }}

{{- /* Names of the Secrets to pull with, as a JSON list. */}}
{{- define "p2pnet.pullSecrets" -}}
{{- $names := list -}}
{{- range concat .Values.imagePullSecrets (default list (.Values.global).imagePullSecrets) -}}
{{- if kindIs "string" . }}{{ $names = append $names . }}{{ else }}{{ $names = append $names .name }}{{ end -}}
{{- end -}}
{{- toJson (uniq $names) -}}
{{- end }}

{{- /* The same as a pod has them; empty when there are none. */}}
{{- define "p2pnet.imagePullSecrets" -}}
{{- with fromJsonArray (include "p2pnet.pullSecrets" .) -}}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end -}}
{{- end }}

{{- /* Refuses variables in extraEnv that the chart sets itself: two of a name would be one too many. */}}
{{- define "p2pnet.checkEnv" -}}
{{- $ours := dict "P2PNET_NODE_IMAGE" "nodeImage" "P2PNET_IMAGE_PULL_SECRETS" "imagePullSecrets" "P2PNET_WATCH_NAMESPACES" "watchNamespaces"
      "P2PNET_ANY_USER" "openshift" "P2PNET_LEADER_ELECTION" "replicas" "P2PNET_LOG_LEVEL" "logLevel" "P2PNET_LOG_FORMAT" "logFormat" "P2PNET_POD_NAME" "nothing" "P2PNET_POD_NAMESPACE" "nothing"
      "P2PNET_INSTALLATION" "nothing" -}}
{{- range .Values.extraEnv -}}
{{- if hasKey $ours .name }}{{ fail (printf "extraEnv: %s is set by the chart, from %s" .name (get $ours .name)) }}{{ end -}}
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

{{- /* (list $ "subnets"): whose definition of Subnets is in the cluster: empty when there is none, or it is this release's. */}}
{{- define "p2pnet.foreignDefinition" -}}
{{- $root := first . -}}
{{- if $root.Values.crds.install -}}
{{- with lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" (printf "%s.p2pnet.io" (last .)) -}}
{{- $annotations := default dict .metadata.annotations -}}
{{- $name := get $annotations "meta.helm.sh/release-name" -}}
{{- $namespace := get $annotations "meta.helm.sh/release-namespace" -}}
{{- if not (and (eq $name $root.Release.Name) (eq $namespace $root.Release.Namespace)) -}}
{{- if $name }}release {{ $name }} in namespace {{ $namespace }}{{ else }}no release of helm{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- /* (list $ KIND NAMESPACE): another release whose objects of this kind say that it serves the same; empty: none, or no cluster. */}}
{{- define "p2pnet.otherRelease" -}}
{{- $root := first . -}}
{{- $found := lookup "rbac.authorization.k8s.io/v1" (index . 1) (last .) "" | default dict -}}
{{- range default list $found.items -}}
{{- $labels := default dict .metadata.labels -}}
{{- $annotations := default dict .metadata.annotations -}}
{{- $name := get $annotations "meta.helm.sh/release-name" -}}
{{- $namespace := get $annotations "meta.helm.sh/release-namespace" -}}
{{- /* The latter two are of versions that had no label of their own. */}}
{{- $ours := or (hasKey $labels "p2pnet.io/component") (eq (get $labels "app.kubernetes.io/name") "p2pnet") (regexMatch "^p2pnet-[0-9]" (get $labels "helm.sh/chart")) -}}
{{- $operator := and $ours (eq (get $labels "app.kubernetes.io/component") "operator") -}}
{{- if and $operator (not (hasSuffix "-lease" .metadata.name)) (not (and (eq $name $root.Release.Name) (eq $namespace $root.Release.Namespace))) -}}
{{- if $name }} release {{ $name }} in namespace {{ $namespace }}{{ else }} {{ .metadata.name }}, which no release of helm has made{{ end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- /* Two operators on one namespace: the second would only wait. */}}
{{- define "p2pnet.refuseTwice" -}}
{{- if .Release.IsInstall -}}
{{- if eq .Values.scope "cluster" -}}
{{- with include "p2pnet.otherRelease" (list . "ClusterRoleBinding" "") -}}
{{- fail (printf "the whole cluster is served already, by%s: upgrade that one, or install this with scope=namespace" .) -}}
{{- end -}}
{{- else -}}
{{- range splitList "," (include "p2pnet.namespaces" .) -}}
{{- with include "p2pnet.otherRelease" (list $ "RoleBinding" .) -}}
{{- fail (printf "a namespace of watchNamespaces is served already, by%s: upgrade that one, or leave the namespace out" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- /* The namespace of the examples: one that is served. */}}
{{- define "p2pnet.exampleNamespace" -}}
{{- if eq .Values.scope "namespace" }}{{ splitList "," (include "p2pnet.namespaces" .) | first }}{{ else }}default{{ end -}}
{{- end }}

{{- /* Of a container; what is written in the values wins, key by key. */}}
{{- define "p2pnet.restricted" -}}
{{- $ours := dict "allowPrivilegeEscalation" false "capabilities" (dict "drop" (list "ALL")) "readOnlyRootFilesystem" true -}}
{{- include "p2pnet.overridden" (list $ours .Values.containerSecurityContext) -}}
{{- end }}

{{- /* "true" where the cluster chooses the user of pods. */}}
{{- define "p2pnet.openshift" -}}
{{- if eq (toString .Values.openshift) "auto" }}{{ .Capabilities.APIVersions.Has "security.openshift.io/v1" }}{{ else }}{{ .Values.openshift }}{{ end -}}
{{- end }}

{{- /* Of a pod. */}}
{{- define "p2pnet.nonroot" -}}
{{- $ours := dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- if ne (include "p2pnet.openshift" .) "true" }}{{ $ours = merge $ours (dict "runAsUser" 65532 "runAsGroup" 65532) }}{{ end -}}
{{- include "p2pnet.overridden" (list $ours .Values.podSecurityContext) -}}
{{- end }}

{{- /* (list ours theirs): theirs over ours; a null takes ours away, so that the cluster (OpenShift) chooses. */}}
{{- define "p2pnet.overridden" -}}
{{- $merged := deepCopy (first .) -}}
{{- range $key, $value := last . -}}
{{- if kindIs "invalid" $value }}{{ $_ := unset $merged $key }}{{ else }}{{ $_ := set $merged $key $value }}{{ end -}}
{{- end -}}
{{- toYaml $merged -}}
{{- end }}
