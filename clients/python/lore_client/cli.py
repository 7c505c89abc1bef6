"""The options of ``lore-ask``, which ``lore ask`` has too."""

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from lore_client import ask as asking
from lore_client.edges import address
from lore_client.place import Problem, default_data_dir, running

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
    question: Annotated[str | None, typer.Argument(help="- reads it from the input.")] = None,
    edge: Annotated[
        list[str] | None,
        typer.Option(help="An edge's address; may be repeated. [those of the running lore up]"),
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="The answer's length at most.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0: the likeliest words.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="The same one gives the same answer again.")
    ] = None,
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

    Edges that want an API key get that of LORE_API_KEY.
    """
    if (question is None) == (resume is None):
        raise Problem("give a question, or --resume with a request's id")
    if question == "-":
        question = sys.stdin.read()
    if question is not None and not question.strip():
        raise Problem("the question is empty")
    chosen = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    found = running(data_dir)
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
            command=context.command_path,
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
