#!/bin/sh
# Run as root while BentoML builds the image, after the packages are installed. Makes `python -m service` and `python -m
# service.worker` work in any folder, and creates the state and store folders, owned by the user that runs them.
set -eu
echo "$BENTO_PATH/src" > "$(/app/.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/gauntlet.pth"
install -d -o bentoml -g bentoml -m 0700 /var/lib/gauntlet /var/lib/gauntlet-store
