"""The options of ``lore-ask``, which ``lore ask`` has too."""

import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from lore_client import ask as asking
from lore_client.edges import address
from lore_client.place import Problem, called_as, default_data_dir, running

HELP = {"help_option_names": ["-h", "--help"]}
DEFAULT_EDGE = "http://127.0.0.1:8080"
DATA_DIR = default_data_dir()
DataDir = Annotated[
    Path,
    typer.Option(envvar="LORE_DATA_DIR", help="Where the store, the logs and the lock are."),
]


def _show_version(context: typer.Context, asked: bool) -> None:
    if asked:
        print(f"{context.command_path} {version('lore-client')}")
        raise typer.Exit


def ask(
    context: typer.Context,
    question: Annotated[
        str | None, typer.Argument(help="The question; - reads standard input.")
    ] = None,
    edge: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL", help="An edge; may be repeated. [those of the running lore up]"
        ),
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="The most tokens of the answer.")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="0: always the likeliest token.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same answer.")] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="ID", help="Read this answer instead of asking.")
    ] = None,
    stop: Annotated[
        bool, typer.Option(help="Whether Ctrl-C stops the answer or only leaves it.")
    ] = True,
    data_dir: DataDir = DATA_DIR,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Ask, and read the answer as it comes. Ctrl-C stops it for good.

    If the edges require an API key, set LORE_API_KEY to it.
    """
    if question is None and resume is None:
        raise Problem("give a question, or --resume with a request's id")
    if question is not None and resume is not None:
        raise Problem("--resume reads an answer that was asked for: give no question with it")
    if question == "-":
        question = sys.stdin.read()
    if question is not None and not question.strip():
        raise Problem("the question is empty")
    chosen = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    found = running(data_dir)
    program, *command = context.command_path.split()
    program, where = called_as(program, data_dir)
    where += "".join(f" --edge {shlex.quote(each)}" for each in edge or ())
    try:
        edges = [address(each) for each in edge or (found.edges if found else [DEFAULT_EDGE])]
    except ValueError as error:
        raise Problem(f"--edge: {error}") from error
    sys.exit(
        asking.ask(
            question,
            edges=edges,
            parameters={name: value for name, value in chosen.items() if value is not None},
            resume=resume,
            stop=stop,
            command=" ".join([program, *command]) + where,
        )
    )


def run() -> None:
    """The command ``lore-ask``."""
    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings=HELP,
        rich_markup_mode=None,
    )
    app.command()(ask)
    try:
        app(prog_name="lore-ask")
    except Problem as problem:
        print(f"lore-ask: {problem}", file=sys.stderr)
        sys.exit(1)
