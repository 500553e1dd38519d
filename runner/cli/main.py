"""The command ``runner``."""

from __future__ import annotations

import click

from .common import Verbs

#: The module of each verb.
VERBS = {
    "demo": "runner.cli.demo",
    "init": "runner.cli.init",
    "run": "runner.cli.run",
    "append": "runner.cli.append",
    "read": "runner.cli.read",
    "tail": "runner.cli.tail",
    "import": "runner.cli.import_",
    "export": "runner.cli.export",
    "copy": "runner.cli.copy",
    "view": "runner.cli.view",
    "projections": "runner.cli.projections",
    "status": "runner.cli.status",
    "why": "runner.cli.why",
    "rebuild": "runner.cli.rebuild",
    "rollback": "runner.cli.rollback",
    "parked": "runner.cli.parked",
    "skipped": "runner.cli.skipped",
    "reset": "runner.cli.reset",
    "unregister": "runner.cli.unregister",
    "trim": "runner.cli.trim",
    "verify": "runner.cli.verify",
    "doctor": "runner.cli.doctor",
    "scripts": "runner.cli.scripts",
    "acl": "runner.cli.acl",
    "bench": "runner.cli.bench",
}


@click.group(cls=Verbs, verbs=VERBS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="redis-streams-runner", prog_name="runner")
def main() -> None:
    """An event log on Redis Streams, and the runner that turns it into read models.

    The store is --store URL or RUNNER_STORE: redis://HOST:PORT/DB, rediss://…, unix://PATH, or embedded:DIRECTORY,
    which starts a server of its own. Exit codes: 0 done; 1 something was found or has stopped; 2 a mistake in the
    command or its input; 3 the server; 130 interrupted, or stopped at once by a second signal.
    """
