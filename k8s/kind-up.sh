#!/bin/sh
# A kind cluster called lore, with the images in it: make kind-up
set -eu
cd "$(dirname "$0")/.."

for tool in kind docker; do
  command -v $tool >/dev/null || { echo "$tool is not here: see https://kind.sigs.k8s.io" >&2; exit 1; }
done
kind get clusters | grep -qx lore || kind create cluster --config k8s/kind.yaml
k8s/images.sh
version=$(sed -n 's/^appVersion: //p' charts/lore/Chart.yaml)
for service in edge operator generator; do
  kind load docker-image "lore-$service:${TAG:-$version}" --name lore
done
echo "Now: helm upgrade --install lore charts/lore -f k8s/values-kind.yaml --wait, or skaffold dev"
