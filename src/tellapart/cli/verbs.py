"""A group of verbs that suggests the nearest one for a word it does not know."""

import shlex
from typing import Any

import click

from tellapart.errors import nearest


class Verbs(click.Group):
    """A click group whose error for an unknown verb is the same with every version of click."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[Any, Any, Any]:
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            guess = nearest(args[0], known)
            later = next((word for one in args[1:] if (word := one.rpartition("=")[2]) in known), None)
            hint = f" Did you mean '{guess}'?" if guess else ""
            if later and not guess:
                hint = f" The verb comes first: {ctx.command_path} {shlex.join([later, args[0]])}"
            raise click.UsageError(f"There is no verb '{args[0]}'.{hint}", ctx)
        return super().resolve_command(ctx, args)
