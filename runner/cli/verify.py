"""``runner verify``: walk the whole store and say what is wrong."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from ..operations.verify import Finding, Inspection
from ..sync.store import EventStore
from .common import FOUND, json_option, print_json, progress_bar, store_options


@click.command("verify")
@json_option
@store_options
def command(store: EventStore, as_json: bool) -> None:
    """Check positions, numbers, ids, indexes and checkpoints against each other. A finding makes the exit code 1.

    Example: runner verify
    """
    findings: list[Finding] = []
    events = 0
    for keys in store.info.keys:
        inspection = Inspection(store, keys)
        with progress_bar("verifying", store.last_position(partition=keys.partition)) as progress:
            for finding in inspection.findings(progress):
                findings.append(finding)
                if not as_json:
                    click.echo(f"partition {finding.partition}: {finding.where}: {finding.what}")
        events += inspection.events
    if as_json:
        print_json({"events": events, "findings": [asdict(finding) for finding in findings]})
    elif not findings:
        click.echo(f"{events} events, nothing wrong")
    else:
        click.echo(f"{events} events, {len(findings)} findings", err=True)
    if findings:
        sys.exit(FOUND)
