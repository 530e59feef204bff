"""The program `adbench`: its commands, the options of every command, and how a run ends."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from functools import lru_cache, partial
from inspect import getdoc
from typing import Annotated, Any

import typer

from adbench import __version__
from adbench.cli import (
    cache,
    console,
    demo,
    eval_maps,
    evaluate,
    extract,
    predict,
    report,
    rf,
    select,
    submit,
    sweep,
    synth,
    train,
    weights,
)
from adbench.cli.help import SETTINGS, Command, Group, help_, split_examples, with_help
from adbench.cli.list import list_names
from adbench.cli.options import expanded
from adbench.cli.stopping import stoppable
from adbench.core.errors import AdbenchError

_ABOUT = "Which pretrained backbone, layer, input size, pretraining and detector to use for visual anomaly detection."
_EPILOG = """\
Exit codes:
    0    done
    1    some jobs failed or were skipped
    2    wrong usage
    3    data or weights missing or unreadable
    4    an image is anomalous (predict --fail-on-anomaly)
    130  stopped by SIGINT (Ctrl-C)
    143  stopped by SIGTERM

Examples:
  adbench sweep --preset quickstart
  adbench help sweep"""

PANELS: dict[str, dict[str, Callable[..., None]]] = {  # in the order of a project
    "Try": {"demo": demo.demo},
    "Measure": {
        "rf": rf.rf,
        "extract": extract.extract,
        "sweep": sweep.sweep,
        "report": report.report,
        "eval-maps": eval_maps.eval_maps,
    },
    "Decide without labeled defects": {"select": select.select, "synth": synth.synth},
    "Deploy": {
        "train": train.train,
        "eval": evaluate.evaluate,
        "threshold": predict.threshold,
        "predict": predict.predict,
        "submit": submit.submit,
    },
    "Look things up": {
        "list": list_names,
        "weights list": weights.weights_list,
        "weights check": weights.weights_check,
        "weights path": weights.weights_path,
        "weights import": weights.weights_import,
        "cache list": cache.cache_list,
        "cache prune": cache.cache_prune,
        "help": help_,
    },
}
COMMANDS = {path: command for commands in PANELS.values() for path, command in commands.items()}
GROUPS = {"weights": "List, check, find or import weights.", "cache": "List or prune the feature cache."}
# typer's parser is click, in newer releases its own copy: the base class of its errors is found through one that typer exports
ParserError: type[typer.BadParameter] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def _print_version(wanted: bool) -> None:
    if wanted:
        console.answer(f"adbench {__version__}")
        raise typer.Exit


def common(
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print answers, warnings and errors only. May also stand behind a command.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also print the traceback of a failed job. May also stand behind a command.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Set up the console. These options may stand before or after the command's name."""
    console.set_up(quiet, verbose)


def make_app() -> typer.Typer:
    """Return the Typer app with all commands."""
    new = partial(typer.Typer, cls=Group, context_settings=SETTINGS, rich_markup_mode=None)
    app = new(name="adbench", help=_ABOUT, epilog=_EPILOG, pretty_exceptions_enable=False)
    app.callback()(common)
    groups = {"": app}
    for panel, commands in PANELS.items():
        for path, command in commands.items():
            group, _, name = path.rpartition(" ")
            if group not in groups:
                app.add_typer(groups.setdefault(group, new(help=GROUPS[group])), name=group, rich_help_panel=panel)
            text, examples = split_examples(getdoc(command) or "")
            add = groups[group].command(
                name, cls=Command, help=text, epilog=examples, rich_help_panel=None if group else panel
            )  # fmt: skip
            add(expanded(command))
    return app


app = make_app()


@lru_cache(maxsize=1)
def _command() -> Any:
    """Return the parser of the whole command line; a process that runs several commands makes it once."""
    return typer.main.get_command(app)


def run(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; a user's mistake is one line on stderr."""
    # read when torch is imported: threads that spin while they wait make a busy machine up to ten times slower
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    console.set_up()
    given = with_help(sys.argv[1:] if arguments is None else arguments, (*GROUPS, "list"))
    try:
        typed = shlex.join(["adbench", *given])  # recorded with results, and printed to resume a stopped command
        with stoppable(typed):
            # the options of every command come first, where the parser expects them
            arguments = sorted(given, key=lambda one: one not in ("--quiet", "-q", "--verbose", "-v"))
            code = _command()(args=arguments, prog_name="adbench", standalone_mode=False, obj=typed)
    except AdbenchError as error:
        console.error(str(error))
        code = error.exit_code
    except ParserError as error:
        message, context = error.format_message().rstrip("."), getattr(error, "ctx", None)
        usage = f"See '{context.command_path if context else 'adbench'} --help'."
        console.error(f"{message}{'' if message.endswith('?') else '.'} {usage}")
        code = 2
    raise SystemExit(code or 0)
