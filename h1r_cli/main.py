"""The click group, made of what plugins offer. An `H1RError` becomes words and exit status 2."""

from __future__ import annotations

import sys
from collections import Counter

import click

from h1r_cli import __version__, registry
from h1r_cli.errors import H1RError


class PluginGroup(click.Group):
    """A group whose commands come through the hook `h1r_commands`; `ctx.obj` is the Registry."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Each command that one plugin offers; of a name that two offer, `get_command` says so."""
        offers = Counter(offer.name for offer in ctx.obj.offers("h1r_commands"))
        return sorted(name for name, count in offers.items() if count == 1)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command: click.Command = ctx.obj.find("h1r_commands", cmd_name)
        return command


@click.group(cls=PluginGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="h1r")
def cli() -> None:
    """The Falcon-H1R recipe: from data to a reasoning model, and from a prompt to an answer."""


def main() -> None:
    """Run the command line; exit status 0, 2 for what the user can mend, 130 when interrupted."""
    try:
        status = cli(standalone_mode=False, obj=registry.load())
    except H1RError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; what is finished is kept, go on with --resume", err=True)
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)
