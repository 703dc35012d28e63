"""``python -m service``: serve on GAUNTLET_HOST and GAUNTLET_PORT.

``python -m service settings``: print all settings and what they mean.
``python -m service keys new NAME --scope read|attack|admin``: make an API key.
"""

import argparse
import os
import sys

from pydantic import ValidationError

from gauntlet.errors import GauntletError
from service.access import keys
from service.drain import SPARE
from service.settings import ROOT, Settings, described


def main() -> None:
    """Become BentoML's server, make a key, or tell the settings; status 1 and one line of reason for what cannot be."""
    parser = argparse.ArgumentParser(prog="python -m service", description=__doc__)
    commands = parser.add_subparsers(metavar="COMMAND")
    new = commands.add_parser("keys", help="API keys").add_subparsers(required=True).add_parser("new", help="make one")
    new.add_argument("name", help="letters, digits, dots, dashes and underscores")
    new.add_argument("--scope", choices=list(keys.Scope), required=True, help="each includes those before it")
    commands.add_parser("settings", help="print them").set_defaults(told=True)
    asked = parser.parse_args()
    try:
        if "name" in asked:
            make_key(asked.name, keys.Scope(asked.scope))
        elif "told" in asked:
            sys.stdout.write(f"{described()}\n")
        else:
            serve(Settings.load())
    except GauntletError as error:
        sys.stderr.write(f"gauntlet: {error}\n")
        sys.exit(1)


def make_key(name: str, scope: keys.Scope) -> None:
    """Print the key, which is nowhere else, and on standard output the line to keep."""
    try:
        secret, key = keys.new(name, scope)
    except ValidationError as error:
        raise GauntletError(f"{name!r} cannot be a key's name: {error.errors()[0]['msg']}") from error
    sys.stderr.write(f"the key, shown this once: {secret}\nthe line for GAUNTLET_KEYS_FILE:\n")
    sys.stdout.write(f"{keys.line(key)}\n")


def serve(settings: Settings) -> None:
    keys.check_open(settings, str(settings.host))  # BentoML's parent checks too, but takes seconds to get there
    os.environ.update(settings.export(), BENTOML_DO_NOT_TRACK="True")
    command = [sys.executable, "-m", "bentoml", "serve", "service.api:Gauntlet", "--working-dir", str(ROOT)]
    command += ["--host", str(settings.host), "--port", str(settings.port)]
    command += ["--timeout-graceful-shutdown", str(settings.drain_s + SPARE)]  # BentoML's own default is a day
    os.execv(sys.executable, command)  # noqa: S606  no shell, and no word in it but ours


if __name__ == "__main__":
    main()
