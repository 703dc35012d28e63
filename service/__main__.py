"""``python -m service``: serve on GAUNTLET_HOST and GAUNTLET_PORT. See ``service.settings`` for all settings."""

import os
import sys

from gauntlet.errors import GauntletError
from service.drain import SPARE
from service.settings import ROOT, Settings


def main() -> None:
    """Become BentoML's server. Ends with status 1 and one line of reason for a setting that cannot be."""
    try:
        settings = Settings.load()
    except GauntletError as error:
        sys.stderr.write(f"gauntlet: {error}\n")
        sys.exit(1)
    os.environ.update(settings.export(), BENTOML_DO_NOT_TRACK="True")
    command = [sys.executable, "-m", "bentoml", "serve", "service.api:Gauntlet", "--working-dir", str(ROOT)]
    command += ["--host", str(settings.host), "--port", str(settings.port)]
    command += ["--timeout-graceful-shutdown", str(settings.drain_s + SPARE)]  # BentoML's own default is a day
    os.execv(sys.executable, command)  # noqa: S606  no shell, and no word in it but ours


if __name__ == "__main__":
    main()
