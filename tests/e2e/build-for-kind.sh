#!/usr/bin/env bash
# Builds a folder's Dockerfile and brings the image to the nodes. Usage: build-for-kind.sh CLUSTER TAG FOLDER
set -euo pipefail
docker build -q -t "$2" "$3"
kind load docker-image --name "$1" "$2"
