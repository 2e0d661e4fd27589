"""The commands around the daemon: run, check, schema."""

from __future__ import annotations

import json
import os
import sys

import click

from dugs_stream.cli.options import Settings, command, configured


@command("dugs run -c config/kafka.yaml\ndugs run --set selection.threshold=0.5 --drain")
@configured
@click.option(
    "--drain", is_flag=True,
    help="Stop once everything that was on the input at the start is decided and committed.",
)  # fmt: skip
@click.option("--quiet", is_flag=True, help="Show no live summary on a terminal, only the log.")
def run(settings: Settings, *, drain: bool, quiet: bool) -> None:
    """Run the daemon until SIGTERM. It reads samples, judges them and publishes the unique ones."""
    from dugs_stream.app.daemon import run_daemon
    from dugs_stream.ops.live_summary import LiveSummary, suits

    is_json = settings.logging.format == "json"
    is_live = not (quiet or is_json) and suits(sys.stderr, os.environ)
    try:
        run_daemon(settings, drain=drain, summary=LiveSummary(sys.stderr) if is_live else None)
    except Exception as error:
        if not is_json:
            raise
        sys.exit(
            getattr(error, "exit_code", 1)
        )  # the last JSON line said why; one more line would not be JSON


@command("dugs check -c config/kafka.yaml --deep")
@configured
@click.option(
    "--deep", is_flag=True, help="Also load the model, probe it, and try the log and the state folder."
)
def check(settings: Settings, *, deep: bool) -> None:
    """Report every problem of the configuration at once. Each comes with its place and a remedy."""
    from dugs_stream.config import warnings

    for warning in warnings(settings):
        click.echo(f"warning: {warning}", err=True)
    if not deep:
        click.echo("The configuration is valid.", err=True)
        return
    from dugs_stream.cli.console import show_findings, waiting

    with waiting() as say:
        say("loading PyTorch")
        from dugs_stream.commands.check import check_deep

        findings = check_deep(settings, say)
    show_findings(findings)
    failed = sum(not finding.passed for finding in findings)
    if failed:
        click.echo(f"{failed} of {len(findings)} checks failed: see the rows FAILED", err=True)
        sys.exit(1)
    click.echo("The configuration is valid, and all that was tried works.", err=True)


@command("dugs schema config > dugs.schema.json")
@click.argument(
    "subject",
    type=click.Choice(
        ["config", "event", "clusters", "calibrate", "calibrate-list", "evaluate", "evaluate-list"]
    ),
)
def schema(subject: str) -> None:
    """Print the JSON Schema of settings, events or a report. Its dialect is 2020-12."""
    if subject == "config":
        from dugs_stream.config import config_schema

        document = config_schema()
    elif subject == "clusters":
        from dugs_stream.lab.clusters.report import report_schema

        document = report_schema()
    elif subject == "calibrate":
        from dugs_stream.lab.calibrate.report import report_schema as calibration_schema

        document = calibration_schema()
    elif subject == "calibrate-list":
        from dugs_stream.lab.calibrate.list_report import list_schema

        document = list_schema()
    elif subject == "evaluate":
        from dugs_stream.lab.evaluate.report import report_schema as evaluation_schema

        document = evaluation_schema()
    elif subject == "evaluate-list":
        from dugs_stream.lab.evaluate.list_report import list_schema as evaluated_list_schema

        document = evaluated_list_schema()
    else:
        from dugs_stream.outputs.event import event_schema

        document = event_schema()
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))
