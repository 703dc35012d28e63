#!/bin/bash
# Run inside new namespaces (see tests/deploy/container.py): turn an image's root into a container and run a command in it,
# like a container engine with --read-only --network none: enter.sh ROOT STATE UID:GID COMMAND...
set -euo pipefail
root=$1 state=$2 user=$3
shift 3
mount --make-rprivate /
echo "127.0.0.1 localhost" > "$root/etc/hosts"
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
for device in null zero random urandom; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir -m 1777 "$root/dev/shm"
mount --bind "$state" "$root/var/lib/gauntlet"
ip link set lo up
exec setpriv --no-new-privs chroot --userspec="$user" "$root" "$@"
