"""``python -m service``: serve on GAUNTLET_HOST and GAUNTLET_PORT.

``python -m service doctor``: say what would keep it from working here; status 1 where something would.
``python -m service settings``: print all settings and what they mean.
``python -m service migrate``: make the tables of the job database, or bring them to this release.
``python -m service keys new NAME --scope read|attack|admin``: make an API key.
"""

import argparse
import gc
import os
import sys

from pydantic import ValidationError

from gauntlet.errors import GauntletError
from service.auth import keys
from service.errors import ServiceError
from service.middleware.drain import SPARE
from service.request_context import Scope
from service.settings import ROOT, Settings, described


def main() -> None:
    """Become BentoML's server, make a key, or tell the settings; status 1 and one line of reason for what cannot be."""
    parser = argparse.ArgumentParser(prog="python -m service", description=__doc__)
    commands = parser.add_subparsers(metavar="COMMAND")
    new = commands.add_parser("keys", help="API keys").add_subparsers(required=True).add_parser("new", help="make one")
    new.add_argument("name", help="letters, digits, dots, dashes and underscores")
    new.add_argument("--scope", choices=list(Scope), required=True, help="each includes those before it")
    commands.add_parser("settings", help="print them").set_defaults(settings=True)
    commands.add_parser("doctor", help="say what would keep the service from working here").set_defaults(doctor=True)
    migrate = commands.add_parser("migrate", help="make the job database's tables, or bring them to this release")
    migrate.add_argument("--grant", metavar="ROLE", help="a role of PostgreSQL that is to use them, and change none")
    asked = parser.parse_args()
    try:
        if "name" in asked:
            make_key(asked.name, Scope(asked.scope))
        elif "settings" in asked:
            sys.stdout.write(f"{described()}\n")
        elif "grant" in asked:
            make_tables(Settings.load(), asked.grant)
        elif "doctor" in asked:
            sys.exit(examine(Settings.load()))
        else:
            serve(Settings.load())
    except (GauntletError, ServiceError) as error:
        sys.stderr.write(f"gauntlet: {error}\n")
        sys.exit(1)


def examine(settings: Settings) -> int:
    """Print what the doctor finds. Returns 1 where something is wrong, else 0."""
    from service.doctor import diagnose  # noqa: PLC0415 - serving needs none of it

    good = True
    for finding in diagnose(settings):
        print(f"{'ok   ' if finding.good else 'WRONG'} {finding.subject:<9} {finding.text}")
        good = good and finding.good
    return 0 if good else 1


def make_tables(settings: Settings, role: str | None) -> None:
    from service.jobs.schema import migrate  # noqa: PLC0415 - serving needs none of it
    from service.private_files import keep_private  # noqa: PLC0415

    keep_private(settings.state, settings.database_url)
    settings.state.mkdir(parents=True, exist_ok=True)
    migrate(settings.database_url, role)


def make_key(name: str, scope: Scope) -> None:
    """Print the key, which is nowhere else, and on standard output the line to keep."""
    try:
        secret, key = keys.new(name, scope)
    except ValidationError as error:
        raise GauntletError(f"{name!r} cannot be a key's name: {error.errors()[0]['msg']}") from error
    sys.stderr.write(f"the key, shown this once: {secret}\nthe line for GAUNTLET_KEYS_FILE:\n")
    sys.stdout.write(f"{keys.line(key)}\n")


def serve(settings: Settings) -> None:
    keys.check_open(settings, str(settings.host))  # BentoML's parent checks too, but takes seconds to get there
    os.environ.update(settings.export())
    gc.disable()  # it would look again and again through what only grows; service.bento switches it on
    from bentoml_cli.cli import cli  # noqa: PLC0415  half of the start, which printing settings does not need

    command = ["serve", "service.bento:Gauntlet", "--working-dir", str(ROOT)]
    command += ["--host", str(settings.host), "--port", str(settings.port)]
    command += ["--timeout-graceful-shutdown", str(settings.drain_s + SPARE)]  # BentoML's own default is a day
    cli(args=command, prog_name="bentoml")


if __name__ == "__main__":
    main()
