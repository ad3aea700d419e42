"""`tellapart doctor`."""

import json
from dataclasses import asdict

import click

from tellapart.cli.options import json_option


@click.command("doctor")
@json_option
def command(as_json: bool) -> int:
    """Say what is installed, what works, and what is missing; exit code 1 when something needs care."""
    from tellapart.workflow.doctor import examine

    findings = examine()
    if as_json:
        click.echo(json.dumps({"format": 1, "findings": [asdict(finding) for finding in findings]}, indent=1))
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            click.echo(
                f"{finding.name:<{width}}  {finding.value}" + (f"  <- {finding.trouble}" if finding.trouble else "")
            )
    return 1 if any(finding.trouble for finding in findings) else 0
