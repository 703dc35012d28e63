#!/bin/sh
# Run as root while BentoML builds the image, after the packages are in. Makes `python -m service` and `python -m
# service.worker` work from anywhere, and a state folder that belongs to the user under which they run.
set -eu
echo "$BENTO_PATH/src" > "$(/app/.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/gauntlet.pth"
install -d -o bentoml -g bentoml -m 0700 /var/lib/gauntlet /var/lib/gauntlet-store
