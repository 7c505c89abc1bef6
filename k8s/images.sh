#!/bin/sh
# Build Lore's images, with docker or buildah, whichever is there: make images
#
#   REGISTRY  in front of their names, such as registry.example.org/lore
#   TAG       the chart's appVersion unless set; the generator's is TAG-cuda or TAG-remote
#             with that DEVICE
#   BASE      an image with Python 3.11 or newer and its venv
#   DEVICE    cpu, cuda, remote (it drives a server such as vLLM) or none: which generator
#   ONLY      some of them: ONLY="edge operator"
#   BUILD     more words for every build, such as --build-arg TORCH_INDEX=…
set -eu
cd "$(dirname "$0")/.."

version=$(sed -n 's/^appVersion: //p' charts/lore/Chart.yaml)
tag=${TAG:-$version}
device=${DEVICE:-cpu}
if command -v docker >/dev/null && docker info >/dev/null 2>&1; then
  build="docker build"
elif command -v buildah >/dev/null; then
  build="buildah build"
else
  echo "neither a running docker nor buildah is here" >&2
  exit 1
fi

for service in ${ONLY:-edge operator generator}; do
  name=${REGISTRY:+$REGISTRY/}lore-$service:$tag
  if [ "$service" = generator ]; then
    case $device in cuda | remote) name=$name-$device ;; esac
    set -- --build-arg DEVICE="$device"
  else
    set --
  fi
  echo "== $name"
  # shellcheck disable=SC2086 # BUILD is words
  $build ${BASE:+--build-arg BASE="$BASE"} "$@" ${BUILD:-} \
    --build-arg VERSION="$tag" \
    --build-arg REVISION="$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
    -f "services/$service/Dockerfile" -t "$name" .
done
