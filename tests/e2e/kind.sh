#!/usr/bin/env bash
# The e2e suite on a kind cluster made for it. Usage: kind.sh WORKER_IMAGE OPERATOR_IMAGE
# Needs docker, kind and kubectl. KEEP=1 leaves the cluster for another run; NODE_IMAGE picks a Kubernetes (1.30 or newer).
set -euo pipefail
worker=$1 operator=$2
here=$(cd "$(dirname "$0")" && pwd)
for tool in docker kind kubectl; do
  command -v "$tool" >/dev/null || { echo "$tool is missing: it is needed to test on kind" >&2; exit 2; }
done
name=elf
cleanup() { [ -n "${KEEP:-}" ] || kind delete cluster --name "$name"; }
trap cleanup EXIT
kind get clusters | grep -qx "$name" || kind create cluster --name "$name" --config "$here/kind.yaml" ${NODE_IMAGE:+--image "$NODE_IMAGE"} --wait 120s
docker build -q -t "$operator" -f operator/Dockerfile .
docker build -q -t "$worker" -f worker_image/Dockerfile ${PIP_EXTRA_INDEX_URL:+--build-arg PIP_EXTRA_INDEX_URL="$PIP_EXTRA_INDEX_URL"} .
kind load docker-image --name "$name" "$operator" "$worker"
make e2e CLUSTER= CONTEXT="kind-$name" WORKER_IMAGE="$worker" OPERATOR_IMAGE="$operator"
