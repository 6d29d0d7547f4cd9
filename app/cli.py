"""The command line: `hasten COMMAND`."""

import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from hasten.app.commands.app import app as web_app
from hasten.app.commands.batch import batch
from hasten.app.commands.bench import bench
from hasten.app.commands.calibrate import calibrate
from hasten.app.commands.compare import compare
from hasten.app.commands.explain import explain
from hasten.app.commands.generate import generate
from hasten.app.commands.models import models
from hasten.app.commands.tune import tune
from hasten.app.errors import INTERRUPTED, UserError, as_options

USER_MISTAKE = 2


class OneSentenceErrors(TyperGroup):
    """Answers a user's mistake with one sentence on standard error and exit code 2, never with a traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line and end the process with its exit code."""
        try:
            sys.exit(super().main(*args, **{**kwargs, "standalone_mode": False}))
        except typer.TyperException as error:
            context = getattr(error, "ctx", None)  # a wrong way to call a command, rather than a wrong file
            where_to_look = f"; see '{context.command_path} --help'." if context else ""
            refuse(error.format_message().rstrip(".") + where_to_look)
        except (typer.Abort, KeyboardInterrupt):
            print("Interrupted; nothing was written.", file=sys.stderr)
            sys.exit(INTERRUPTED)
        except ValueError as error:
            if not is_users_mistake(error):
                raise
            refuse(as_options(error))


def is_users_mistake(error: ValueError) -> bool:
    """Whether `error` tells a user what to change, rather than a developer."""
    from hasten import AccelerationError

    return isinstance(error, UserError | AccelerationError)


def refuse(sentence: str) -> None:
    """Print `sentence` on one line of standard error and end with exit code 2."""
    print("Error: " + " ".join(sentence.split()), file=sys.stderr)
    sys.exit(USER_MISTAKE)


app = typer.Typer(cls=OneSentenceErrors, add_completion=False, pretty_exceptions_enable=False)
for command in (models, explain, generate, compare, calibrate, batch, tune, web_app):
    app.command()(command)
app.add_typer(bench, name="bench")


@app.callback(invoke_without_command=True)
def hasten(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Faster diffusers pipelines without retraining: see, compare and measure what hasten does."""
    if show_version:
        print(version("hasten"))
    elif context.invoked_subcommand is None:
        print(context.get_help())


def main() -> None:
    """Entry point of the `hasten` script."""
    app()
