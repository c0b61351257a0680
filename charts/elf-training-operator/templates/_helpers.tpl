{{- define "elf.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* A Service's name is a DNS label that begins with a letter; a release's may have dots and begin with a digit. */}}
{{- define "elf.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else -}}
{{- $release := .Release.Name | replace "." "-" -}}
{{- $name := include "elf.name" . -}}
{{- $full := contains $name $release | ternary $release (printf "%s-%s" $release $name) -}}
{{- regexMatch "^[0-9]" $full | ternary (printf "elf-%s" $full) $full | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "elf.clusterName" -}}
{{- default (printf "%s-%s" .Release.Namespace (include "elf.fullname" .)) .Values.clusterNameOverride -}}
{{- end -}}

{{- define "elf.serviceAccount" -}}
{{- default (.Values.serviceAccount.create | ternary (include "elf.fullname" .) "default") .Values.serviceAccount.name -}}
{{- end -}}

{{- /* Nothing that changes with an upgrade may be in here: selectors are immutable. */}}
{{- define "elf.selector" -}}
app.kubernetes.io/name: {{ include "elf.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "elf.labels" -}}
{{- include "elf.labelsOf" (dict "top" . "component" "operator") -}}
{{- end -}}

{{- /* Takes (dict "top" . "component" its name "more" labels of the values). The chart's own win, then what is said for
one object, then what is said for all. */}}
{{- define "elf.labelsOf" -}}
{{- $own := include "elf.ownLabels" . | fromYaml -}}
{{- toYaml (merge $own (default dict .more) .top.Values.commonLabels) -}}
{{- end -}}

{{- define "elf.ownLabels" -}}
app.kubernetes.io/name: {{ include "elf.name" .top | quote }}
app.kubernetes.io/instance: {{ .top.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/version: {{ .top.Chart.AppVersion | replace "+" "_" | quote }}
app.kubernetes.io/part-of: elf-training-operator
app.kubernetes.io/managed-by: {{ .top.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .top.Chart.Name .top.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- /* Takes (dict "top" . "image" an image of the values). */}}
{{- define "elf.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ default .top.Chart.AppVersion .image.tag | replace "+" "_" }}
{{- end -}}
{{- end -}}

{{- define "elf.masterKey" -}}
{{- default (printf "%s-master-key" (include "elf.fullname" . | trunc 52 | trimSuffix "-")) .Values.jobs.masterKeySecret -}}
{{- end -}}

{{- define "elf.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "elf.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- /* Of several tolerations of one taint the shortest counts: ours stands back where the values have their own. */}}
{{- define "elf.lostNode" -}}
{{- range $key := list "node.kubernetes.io/not-ready" "node.kubernetes.io/unreachable" -}}
{{- $theirs := false -}}
{{- range $.Values.tolerations -}}
{{- if and (eq (default "" .key) $key) (eq (default "NoExecute" .effect) "NoExecute") -}}
{{- $theirs = true -}}
{{- end -}}
{{- end -}}
{{- if not $theirs }}
- {key: {{ $key }}, operator: Exists, effect: NoExecute, tolerationSeconds: {{ int $.Values.lostNodeSeconds }}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* What the operator may do where its jobs are. It may only give the NPDC what it has itself. */}}
{{- define "elf.jobRules" -}}
- apiGroups: [northpole.dev]
  resources: [elftrainingjobs]
  verbs: [get, list, watch, delete] # delete: spec.ttlSecondsAfterFinished
# The operator may patch a status to write it, and because it may only give the NPDC what it has itself.
- apiGroups: [northpole.dev]
  resources: [elftrainingjobs/status]
  verbs: [get, patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, delete]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services, serviceaccounts]
  verbs: [get, create, patch, delete]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [get, create, patch, delete]
{{- if .Values.jobs.mtls }}
# Identities of pods. It cannot read them: it knows what it wrote.
- apiGroups: [""]
  resources: [secrets]
  verbs: [create, delete]
{{- end }}
{{- if .Values.jobs.networkPolicy }}
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, create, patch]
{{- end }}
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{- /* Most network plugins look at where a packet goes after its Service was translated: it is the port of the endpoints
that counts. The cluster is asked for it at each installation and upgrade; `helm template` has none to ask. */}}
{{- define "elf.apiServerPorts" -}}
{{- $ports := .Values.networkPolicy.apiServer.ports -}}
{{- if not $ports -}}
{{- $ports = list -}}
{{- range (lookup "discovery.k8s.io/v1" "EndpointSlice" "default" "kubernetes").ports -}}
{{- $ports = append $ports (int .port) -}}
{{- end -}}
{{- $ports = prepend (default (list 6443) $ports) 443 | uniq -}}
{{- end -}}
{{- toJson $ports -}}
{{- end -}}

{{- define "elf.egressToCluster" -}}
- ports: # DNS, wherever it runs: on nodes, too
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
- ports:
    # The API server: its Service's port, then the one that it listens at itself, which most network plugins go by. Where
    # that is another one, it has to stand here. To look it up:
    # kubectl get endpointslices --namespace default --selector kubernetes.io/service-name=kubernetes
    {{- range include "elf.apiServerPorts" . | fromJsonArray }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with .Values.networkPolicy.apiServer.cidrs }}
  to:
    {{- range . }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- end }}
  {{- end }}
{{- end -}}

{{- /* Which series are this operator's. */}}
{{- define "elf.series" -}}
namespace="{{ .Release.Namespace }}",job="{{ include "elf.fullname" . }}"
{{- end -}}
