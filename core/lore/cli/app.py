"""The words of the command line; what they do is in the modules beside."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lore.cli import ask as asking
from lore.cli import keys as key_making
from lore.cli import status as showing
from lore.cli import sweep as sweeping
from lore.cli import up as running
from lore.cli.fleet import Options
from lore.cli.place import Place, Problem, default_data_dir
from lore.logs import configure_logging
from lore.sweep import Policy

DEFAULT_EDGE = "http://127.0.0.1:8080"
DATA_DIR = default_data_dir()
STALL_S = Policy().stall_s

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="AI answers as token streams that survive.",
)


keys = typer.Typer(no_args_is_help=True, help="API keys, for edges that ask for them.")
app.add_typer(keys, name="keys")


class EngineName(StrEnum):
    TRANSFORMERS = "transformers"
    SYNTHETIC = "synthetic"


DataDir = Annotated[
    Path,
    typer.Option(envvar="LORE_DATA_DIR", help="Where the store, the logs and the lock are."),
]


@app.command()
def up(
    engine: Annotated[
        EngineName, typer.Option(envvar="LORE_ENGINE", help="synthetic needs no model.")
    ] = EngineName.TRANSFORMERS,
    model: Annotated[
        str | None,
        typer.Option(
            envvar="LORE_MODEL", help="A folder, a .gguf file or a hub name. [SmolLM2-135M]"
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Where the edges listen; 0.0.0.0 lets other devices in.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="The first edge's; 0 takes free ones.")
    ] = 8080,
    edges: Annotated[
        int, typer.Option(min=1, max=64, help="They listen on --port and the ports after it.")
    ] = 2,
    generators: Annotated[int, typer.Option(min=1, max=64)] = 1,
    valkey_url: Annotated[
        str | None,
        typer.Option(envvar="LORE_VALKEY_URL", help="A store of your own. [a private one]"),
    ] = None,
    stall_s: Annotated[
        float,
        typer.Option(
            envvar="LORE_STALL_S",
            min=0,
            help="Take an answer from its generator after this long without its reader; 0: never.",
        ),
    ] = STALL_S,
    api_keys: Annotated[
        Path | None,
        typer.Option(envvar="LORE_API_KEYS_FILE", help="Let in who has a key of this file."),
    ] = None,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Let everyone in who can reach --host.")
    ] = False,
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Run everything on this machine until Ctrl-C."""
    options = Options(
        *(engine.value, model, host, port, edges, generators, valkey_url, data_dir),
        api_keys=api_keys,
        no_auth=no_auth,
    )
    running.run(options, stall_s=stall_s)


@app.command()
def ask(
    question: Annotated[str | None, typer.Argument(help="- reads it from the input.")] = None,
    edge: Annotated[
        list[str] | None,
        typer.Option(help="An edge's URL; may be repeated. [those of the running lore up]"),
    ] = None,
    max_tokens: Annotated[int | None, typer.Option()] = None,
    temperature: Annotated[float | None, typer.Option()] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="ID", help="Read this answer instead of asking.")
    ] = None,
    stop: Annotated[
        bool, typer.Option(help="Whether Ctrl-C stops the answer or only leaves it.")
    ] = True,
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Ask, and read the answer as it comes. Ctrl-C stops it for good.

    Edges that want an API key get that of LORE_API_KEY.
    """
    if (question is None) == (resume is None):
        raise Problem("give a question, or --resume with a request's id")
    if question == "-":
        question = sys.stdin.read()
    chosen = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    found = Place(data_dir).running()
    sys.exit(
        asking.ask(
            question,
            edges=edge or (found.edges if found else [DEFAULT_EDGE]),
            parameters={name: value for name, value in chosen.items() if value is not None},
            resume=resume,
            stop=stop,
        )
    )


@app.command()
def status(
    watch: Annotated[bool, typer.Option(help="Every second, until Ctrl-C.")] = False,
    valkey_url: Annotated[
        str | None, typer.Option(envvar="LORE_VALKEY_URL", help="[that of the running lore up]")
    ] = None,
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Show the live requests and their windows."""
    showing.status(_store_url(valkey_url, data_dir), watch=watch)


@app.command()
def sweep(
    valkey_url: Annotated[
        str | None, typer.Option(envvar="LORE_VALKEY_URL", help="[that of the running lore up]")
    ] = None,
    stall_s: Annotated[
        float,
        typer.Option(envvar="LORE_STALL_S", min=1, help="Reap a window that stands this long."),
    ] = STALL_S,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is found.")] = False,
    every: Annotated[
        float | None,
        typer.Option(min=1, metavar="SECONDS", help="Again and again, until Ctrl-C."),
    ] = None,
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Find requests that nobody moves on, and reap stalled windows.

    Status 0: nothing is left to do; 3: something was found that needs somebody.
    """
    url = _store_url(valkey_url, data_dir)
    sys.exit(sweeping.run(url, Policy(stall_s=stall_s), dry_run=dry_run, every_s=every))


@keys.command("new")
def new_key(
    subject: Annotated[str, typer.Argument(help="Whose it is: answers belong to this name.")],
    file: Annotated[
        Path | None, typer.Option(envvar="LORE_API_KEYS_FILE", help="Add its line to this file.")
    ] = None,
) -> None:
    """Make a key. It is shown once; what is kept of it is its hash."""
    key_making.new(subject, file)


def _store_url(named: str | None, data_dir: Path) -> str:
    """Raises Problem when there is none."""
    found = Place(data_dir).running()
    url = named or (found.valkey_url if found else None)
    if url is None:
        raise Problem("no lore up runs here; start one, or name a store with --valkey-url")
    return url


def main() -> None:
    configure_logging("cli", "error")
    try:
        app()
    except Problem as problem:
        print(f"lore: {problem}", file=sys.stderr)
        sys.exit(1)
