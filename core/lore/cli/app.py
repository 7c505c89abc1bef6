"""The commands and options of the command line. Other modules of this package implement them."""

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import typer

from lore.cli import keys as key_commands
from lore.cli import status as showing
from lore.cli import sweep as sweeping
from lore.cli import up as running
from lore.cli.fleet import Options
from lore.cli.place import Place
from lore.logs import configure_logging
from lore.sweep import Policy
from lore_client.cli import DATA_DIR, HELP, DataDir, ask
from lore_client.place import Problem

STALL_S = Policy().stall_s

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=HELP,
    rich_markup_mode=None,  # its tables cut words off on a narrow terminal
    help="AI answers as token streams that survive.",
)

keys = typer.Typer(no_args_is_help=True, help="API keys, for edges that require them.")
app.add_typer(keys, name="keys")


def _show_version(asked: bool) -> None:
    if asked:
        print(f"lore {version('lore-core')}")
        raise typer.Exit


@app.callback()
def lore(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


KeyFile = Annotated[
    Path, typer.Option(envvar="LORE_API_KEYS_FILE", help="The file that edges read.")
]


@app.command()
def up(
    engine: Annotated[
        Literal["transformers", "synthetic", "llamacpp", "vllm", "sglang"],
        typer.Option(
            envvar="LORE_ENGINE",
            metavar="ENGINE",
            help="transformers; synthetic, which needs no model; or a server of your own: "
            "llamacpp, vllm or sglang.",
        ),
    ] = "transformers",
    engine_url: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="That server; may be repeated. [LORE_ENGINE_URL]"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            envvar="LORE_MODEL", help="A folder, a .gguf file or a hub name. [SmolLM2-135M]"
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Where the edges listen; 0.0.0.0 for other devices, too.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="The first edge's port; 0 takes free ones.")
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
            help="Reap an answer after this many seconds without its reader; 0: never.",
        ),
    ] = STALL_S,
    api_keys: Annotated[
        Path | None,
        typer.Option(
            envvar="LORE_API_KEYS_FILE", help="A file of API keys; only their holders may ask."
        ),
    ] = None,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="No authentication, whoever can reach --host.")
    ] = False,
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Run everything on this machine until Ctrl-C."""
    options = Options(
        *(engine, model, host, port, edges, generators, valkey_url, data_dir),
        api_keys=api_keys,
        no_auth=no_auth,
        engine_urls=tuple(
            engine_url or os.environ.get("LORE_ENGINE_URL", "").replace(",", " ").split()
        ),
    )
    running.run(options, stall_s=stall_s)


app.command()(ask)


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
        typer.Option(
            envvar="LORE_STALL_S", min=1, help="Reap a window that has stalled for so many seconds."
        ),
    ] = STALL_S,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is found.")] = False,
    every: Annotated[
        float | None,
        typer.Option(min=1, metavar="SECONDS", help="Again and again, until Ctrl-C."),
    ] = None,
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Reap stalled windows, report stuck requests.

    Status 0: nothing is left to do; 3: something was found that needs attention.
    """
    url = _store_url(valkey_url, data_dir)
    sys.exit(sweeping.run(url, Policy(stall_s=stall_s), dry_run=dry_run, every_s=every))


@keys.command("new")
def new_key(
    subject: Annotated[str, typer.Argument(help="Whose it is: answers belong to this name.")],
    file: Annotated[
        Path | None, typer.Option(envvar="LORE_API_KEYS_FILE", help="Add its line to this file.")
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="90d, 12h, or a date such as 2027-01-31. [never]"),
    ] = None,
) -> None:
    """Make a key. It is shown once; only its hash is kept."""
    key_commands.new(subject, file, expires)


@keys.command("list")
def list_keys(file: KeyFile) -> None:
    """List a file's keys: id, subject, expiry."""
    key_commands.show(file)


@keys.command("revoke")
def revoke_key(
    name: Annotated[str, typer.Argument(help="A subject, or the id of one key.")],
    file: KeyFile,
    every: Annotated[
        bool, typer.Option("--all", help="All keys of that subject, if it has several.")
    ] = False,
) -> None:
    """Remove a key from a file. Edges refuse it when they read the file again."""
    key_commands.revoke(name, file, every=every)


def _store_url(named: str | None, data_dir: Path) -> str:
    """The URL of the store. Raises Problem when there is none."""
    found = Place(data_dir).running()
    url = named or (found.valkey_url if found else None)
    if url is None:
        raise Problem("no lore up runs here; start one, or name a store with --valkey-url")
    return url


def run() -> None:
    configure_logging("cli", "error")
    try:
        app(prog_name="lore")
    except Problem as problem:
        print(f"lore: {problem}", file=sys.stderr)
        sys.exit(1)
