#!/bin/bash
# Build the bento and an image of it: build.sh cuda|cpu [OPTION=VALUE...]
#   gauntlet:cuda with `bentoml containerize`, gauntlet:cpu with Dockerfile.cpu beside this file.
# BUILDER is docker (the default), podman or buildah; the options are passed to it, for example
#   build.sh cpu build-arg=TORCH_INDEX=https://your.index/simple
#   BUILDER=buildah build.sh cuda volume=/etc/pip.conf:/etc/pip.conf:ro volume=/etc/uv:/etc/uv:ro
set -euo pipefail
cd "$(dirname "$0")/../.."
export BENTOML_DO_NOT_TRACK=True
builder=${BUILDER:-docker} kind=$1
shift

tag=$(.venv/bin/bentoml build --output tag | sed 's/^__tag__://')
case $kind in
  cuda) exec .venv/bin/bentoml containerize "$tag" --backend "$builder" --image-tag gauntlet:cuda "${@/#/--opt=}" ;;
  cpu) exec "$builder" build --file deploy/container/Dockerfile.cpu --tag gauntlet:cpu "${@/#/--}" "$(.venv/bin/bentoml get "$tag" --output path)" ;;
  *) echo "build.sh cuda|cpu, not $kind" >&2 && exit 2 ;;
esac
