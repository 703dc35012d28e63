#!/bin/bash
# Build a substitute for the base image, on a machine that can reach Debian's packages but no image registry: base.sh FOLDER
# Needs root, debootstrap and buildah. The machine's CA certificates are copied into the image, and SSL_CERT_FILE names them.
set -euo pipefail
folder=$1 image=docker.io/library/python:3.11-slim
debootstrap --variant=minbase --include=ca-certificates,python3,python3-pip,python3-venv bookworm "$folder"
ln -s python3 "$folder/usr/bin/python"
rm -rf "$folder"/usr/lib/python3.*/EXTERNALLY-MANAGED "$folder"/var/cache/apt/archives/*.deb
cp /etc/ssl/certs/ca-certificates.crt "$folder/etc/ssl/certs/ca-certificates.crt"

container=$(buildah from scratch)
buildah add --quiet "$container" "$folder" /
buildah config --cmd python3 --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  --env SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt "$container"
buildah commit --quiet --rm "$container" "$image"
