"""``lore`` on the command line, with real processes and the synthetic engine."""

import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from lore.cli import fleet
from lore.cli.app import app
from lore.messages import Message
from lore.request import StreamRequest
from lore_client import State, SyncReader, Text
from lore_client.place import Problem
from lore_edge.settings import SYSTEM_PROMPT
from lore_generator.engines.synthetic_text import synthetic_answer
from tests.programs import have_ended
from tests.services.command_line import DEADLINE_S, LORE, Running, environment, lore

ROOT = Path(__file__).parents[2]
LENGTH = 200
SETTINGS = {
    "LORE_SYNTHETIC_RATE": "100",
    "LORE_SYNTHETIC_LENGTH": str(LENGTH),
    "LORE_LEASE_S": "1",
}
UP = ("up", "--engine", "synthetic", "--port", "0")


def expected(question: str, seed: int) -> str:
    """What the synthetic engine says, from its first principles."""
    messages = [
        Message(role="system", content=SYSTEM_PROMPT),
        Message(role="user", content=question),
    ]
    return "".join(synthetic_answer(StreamRequest(messages=messages, seed=seed), LENGTH))


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    data_dir = tmp_path_factory.mktemp("up")
    with Running(*UP, data_dir=data_dir, **SETTINGS) as running:
        running.until("Ctrl-C stops everything.")
        yield running


def asking(up: Running, *words: str) -> Running:
    """An answer under way: its first text has arrived."""
    ask = Running("ask", *words, data_dir=up.data_dir)
    ask.until(" ")
    return ask


def request_id(errors: str) -> str:
    (name,) = [line.split()[1] for line in errors.splitlines() if line.startswith("request ")]
    return name


def command(
    *words: str, module: str = "lore.cli", **settings: str
) -> subprocess.CompletedProcess[str]:
    """One that needs no data directory."""
    return subprocess.run(
        [sys.executable, "-m", module, *words],
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=60,
    )


def in_process(*words: str, width: int = 80, **settings: str) -> Result:
    """A command that is only parsed. A process of its own takes half a second to start."""
    how: dict[str, Any] = {"prog_name": "lore", "terminal_width": width}
    return CliRunner().invoke(app, list(words), env=environment(**settings), **how)


def problem(done: Result) -> str:
    """What ``lore`` prints as one line."""
    assert isinstance(done.exception, Problem), done.output
    (line,) = str(done.exception).splitlines()
    return line


def as_printed(line: str) -> subprocess.CompletedProcess[str]:
    """A command that ``lore`` has shown."""
    program, *words = shlex.split(line)
    assert program == "lore"
    return command(*words)


def view(up: Running, name: str) -> dict[str, object]:
    return httpx.get(f"{up.edges[0]}/v1/streams/{name}", trust_env=False).json()


def latest(up: Running) -> str:
    """The id of the request that was made last."""
    answer = httpx.get(f"{up.edges[0]}/v1/streams?limit=1", trust_env=False)
    return answer.json()["streams"][0]["request_id"]


def test_ready_lore_says_where_to_look(up: Running) -> None:
    assert len(up.edges) == 2
    for edge in up.edges:
        assert edge in up.seen
    assert httpx.get(up.edges[0], trust_env=False).status_code == 200


@pytest.mark.parametrize("name", ["Ask", "Watch"])
def test_ready_lore_says_how_to_call_it_wherever_its_data_are(up: Running, name: str) -> None:
    (line,) = re.findall(rf"^  {name} +(.+)$", up.seen, re.MULTILINE)
    done = as_printed(line.replace(" --watch", ""))
    assert done.returncode == 0
    assert done.stdout


@pytest.mark.rule("A10")
def test_a_page_of_another_name_is_not_let_in(up: Running) -> None:
    """Its name may resolve to this machine."""
    for host, status in (("localhost", 200), ("page.example", 403)):
        for path in ("/", "/v1/models"):
            url = up.edges[0] + path
            assert httpx.get(url, headers={"host": host}, trust_env=False).status_code == status


def test_ask_prints_the_answer_and_nothing_else(up: Running) -> None:
    """P1"""
    done = lore("ask", "What is a loop?", "--seed", "7", data_dir=up.data_dir)
    assert done.returncode == 0
    assert done.stdout == expected("What is a loop?", 7) + "\n"
    assert view(up, request_id(done.stderr))["status"] == "done"


def test_an_answer_survives_the_death_of_its_edge_and_the_edge_comes_back(up: Running) -> None:
    """P12"""
    with asking(up, "What is a set?", "--seed", "8") as ask:
        up.child("LORE_EDGE_ID=edge-1").kill()
        status, rest, _ = ask.finish()
    assert status == 0
    assert ask.seen + rest == expected("What is a set?", 8) + "\n"
    assert "edge-1 ended" in up.until("edge-1 is back")


def test_an_answer_survives_the_death_of_its_generator(up: Running) -> None:
    """P15"""
    with asking(up, "What is a map?", "--seed", "9") as ask:
        up.child("lore_generator").kill()
        status, rest, _ = ask.finish()
    assert status == 0
    assert ask.seen + rest == expected("What is a map?", 9) + "\n"
    up.until("generator-1 is back")


def test_the_only_generator_that_is_killed_is_waited_for_and_no_lease(tmp_path: Path) -> None:
    """P15. Its readers are told, and the next one takes the answer as soon as it is there."""
    question, lease = "What is a ring?", {"LORE_LEASE_S": str(round(2 * DEADLINE_S))}
    with Running(*UP, "--edges", "1", data_dir=tmp_path, **SETTINGS | lease) as up:
        up.until("Ctrl-C stops everything.")
        with SyncReader(up.edges) as reader:
            asked = reader.create(question, seed=11)
            text, states = "", list[tuple[str, str]]()
            for event in reader.stream(asked.request_id):
                if isinstance(event, State):
                    states.append((event.status, event.reason))
                elif isinstance(event, Text):
                    if not text:
                        up.child("lore_generator").kill()
                    text += event.text
    assert text == expected(question, 11)
    assert ("queued", "released") in states
    assert states.index(("queued", "released")) < states.index(("generating", "failed_over"))


def test_ctrl_c_stops_the_answer_for_good(up: Running) -> None:
    """P14"""
    with asking(up, "What is a heap?") as ask:
        ask.interrupt()
        status, _, errors = ask.finish()
    assert status == 130
    assert errors.splitlines()[-1] == "stopped"
    assert view(up, request_id(errors))["status"] == "cancelled"


def test_an_answer_that_was_only_left_can_be_read_later(up: Running) -> None:
    """P14, P7: the window holds it back until somebody reads again."""
    with asking(up, "What is a tree?", "--seed", "10", "--no-stop") as ask:
        ask.interrupt()
        _, _, errors = ask.finish()
    name = request_id(errors)
    table = lore("status", data_dir=up.data_dir).stdout
    assert name in table
    again = as_printed(errors.partition("left; to read on: ")[2])
    assert again.stdout == expected("What is a tree?", 10) + "\n"


def test_ask_takes_an_edge_without_a_scheme(up: Running, tmp_path: Path) -> None:
    edge = up.edges[0].removeprefix("http://")
    done = lore("ask", "What is a loop?", "--seed", "7", "--edge", edge, data_dir=tmp_path)
    assert done.stdout == expected("What is a loop?", 7) + "\n"


@pytest.mark.parametrize(
    "edge", ["ftp://localhost", "http://", "localhost:port", "localhost:99999", "http://[::1", ""]
)
def test_an_address_of_no_edge_is_one_line(edge: str) -> None:
    line = problem(in_process("ask", "Why?", "--edge", edge))
    assert f"'{edge}'" in line
    assert "--edge" in line


@pytest.mark.parametrize("blank", ["", "  \n"])
def test_an_empty_question_is_one_line(blank: str) -> None:
    assert "the question is empty" in problem(in_process("ask", blank))


@pytest.mark.parametrize("key", ["clé", "two\nlines"])
def test_what_can_be_no_key_is_one_line(key: str) -> None:
    assert problem(in_process("ask", "Why?", LORE_API_KEY=key)).startswith("LORE_API_KEY")


def test_ask_says_that_a_limit_ended_the_answer(up: Running) -> None:
    done = lore("ask", "What is a loop?", "--max-tokens", "5", data_dir=up.data_dir)
    assert done.returncode == 0
    assert "token limit" in done.stderr
    assert "--max-tokens" in done.stderr
    whole = lore("ask", "What is a loop?", data_dir=up.data_dir)
    assert "limit" not in whole.stderr


def test_the_readmes_python_runs_as_printed(up: Running) -> None:
    (program,) = re.findall(
        r"^```python\n(.+?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    for printed, edge in zip(("8080", "8081"), up.edges, strict=True):
        assert program.count(f"http://localhost:{printed}") == 1
        program = program.replace(f"http://localhost:{printed}", edge)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout == view(up, latest(up))["text"] != ""


def test_a_status_that_is_piped_is_whole_however_narrow_the_terminal(up: Running) -> None:
    """Of a request whose reader never comes, so that it stays."""
    body = {"question": "What is a stack?", "window": 8}
    asked = httpx.post(f"{up.edges[0]}/v1/streams", json=body, trust_env=False).json()
    table = lore("status", data_dir=up.data_dir, COLUMNS="40").stdout
    httpx.delete(f"{up.edges[0]}/v1/streams/{asked['request_id']}", trust_env=False)
    (line,) = [line for line in table.splitlines() if asked["request_id"] in line]
    _, state, _, seq, acked, window, age, _, idle, _ = line.split()
    assert state in ("queued", "generating", "paused")
    assert seq.isdecimal()
    assert (acked, window.partition("/")[2]) == ("0", "8")
    assert age.isdecimal()
    assert idle.isdecimal()


@pytest.mark.parametrize("words", [("--version",), ("ask", "--version")])
def test_the_command_line_names_its_version(words: tuple[str, ...]) -> None:
    done = command(*words)
    assert done.returncode == 0
    assert done.stdout.split()[-1] == version("lore-core") == version("lore-client")


@pytest.mark.parametrize("words", [(), ("ask",), ("keys",), ("keys", "revoke")])
def test_h_is_help(words: tuple[str, ...]) -> None:
    short, long = in_process(*words, "-h"), in_process(*words, "--help")
    assert short.exit_code == 0
    assert "Usage: lore" in short.stdout
    assert short.stdout == long.stdout


@pytest.mark.parametrize(
    "words", [(), ("up",), ("ask",), ("status",), ("sweep",), ("keys",), ("keys", "new")]
)
def test_help_is_whole_on_a_narrow_terminal(words: tuple[str, ...]) -> None:
    usage, *lines = in_process(*words, "-h", width=60).stdout.splitlines()
    assert usage.startswith("Usage: lore")
    assert max(map(len, lines)) <= 60
    assert not any(line.endswith(("…", "...")) for line in lines)


INTERRUPTS_ITSELF = """
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.parametrize("library", ["typer", "rich", "httpx", "structlog"])
@pytest.mark.parametrize("module", ["lore.cli", "lore_ask"])
def test_ctrl_c_while_libraries_load_leaves_no_traceback(
    module: str, library: str, tmp_path: Path
) -> None:
    """A library that sends the signal when it is imported stands for the one that is loading."""
    if (module, library) == ("lore_ask", "structlog"):
        pytest.skip("it needs none")
    (tmp_path / f"{library}.py").write_text(INTERRUPTS_ITSELF)
    path = f"{tmp_path}:{ROOT / 'clients/python'}"
    done = command("ask", "Why?", module=module, PYTHONPATH=path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_ctrl_c_before_anything_has_started_leaves_no_traceback(tmp_path: Path) -> None:
    """A listener that does not answer: the first call is under way."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        edge = f"http://127.0.0.1:{server.getsockname()[1]}"
        with (
            Running("ask", "Why?", "--edge", edge, data_dir=tmp_path) as ask,
            server.accept()[0] as connection,
        ):
            connection.recv(1)
            ask.interrupt()
            status, out, errors = ask.finish()
    assert (status, out.strip(), errors) == (130, "", "")


def test_a_question_can_come_from_the_input(up: Running) -> None:
    words = [*LORE, "ask", "-", "--seed", "7", "--data-dir", str(up.data_dir)]
    done = subprocess.run(
        words,
        input="What is a loop?",
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == expected("What is a loop?", 7) + "\n"


def test_a_reader_of_our_output_that_has_enough_is_no_error(up: Running) -> None:
    with asking(up, "What is a queue?") as ask:
        assert ask.process.stdout is not None
        ask.process.stdout.close()
        assert ask.process.wait(60) == 0
        assert ask.process.stderr is not None
        assert b"Traceback" not in ask.process.stderr.read()


def test_status_says_when_nothing_is_live(tmp_path: Path) -> None:
    with Running(*UP, "--edges", "1", data_dir=tmp_path) as up:
        up.until("Ctrl-C stops everything.")
        assert lore("status", data_dir=tmp_path).stdout == "No request is live.\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_stops_everything(number: signal.Signals, tmp_path: Path) -> None:
    with Running(*UP, data_dir=tmp_path) as up:
        up.until("Ctrl-C stops everything.")
        children = up.children()
        up.process.send_signal(number)
        status, out, errors = up.finish()
    assert status == 0
    assert len(children) == 4
    assert have_ended(children, DEADLINE_S)
    assert "ended" not in out
    assert errors == ""
    assert not (tmp_path / "running.json").exists()


def test_a_second_ctrl_c_waits_for_nobody(tmp_path: Path) -> None:
    with Running(*UP, data_dir=tmp_path) as up:
        up.until("Ctrl-C stops everything.")
        children = up.children()
        # A stopped process cannot end by itself.
        up.child("LORE_EDGE_ID=edge-1").suspend()
        up.interrupt()
        up.until("Stopping")
        up.interrupt()
        assert up.finish()[0] == 0
    assert have_ended(children, DEADLINE_S)


def test_nothing_outlives_a_lore_up_that_was_killed(tmp_path: Path) -> None:
    with Running(*UP, data_dir=tmp_path) as up:
        up.until("Ctrl-C stops everything.")
        children = up.children()
        assert len(children) == 4
        up.process.kill()
        assert have_ended(children, DEADLINE_S)


def test_answers_are_still_there_after_a_restart(tmp_path: Path) -> None:
    with Running(*UP, data_dir=tmp_path, **SETTINGS) as first:
        first.until("Ctrl-C stops everything.")
        name = request_id(lore("ask", "Why?", "--seed", "1", data_dir=tmp_path).stderr)
        first.interrupt()
        first.finish()
    with Running(*UP, data_dir=tmp_path, **SETTINGS) as second:
        second.until("Ctrl-C stops everything.")
        again = lore("ask", "--resume", name, data_dir=tmp_path)
    assert again.stdout == expected("Why?", 1) + "\n"


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a command that failed."""
    assert done.returncode not in (0, None)
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("request ")]
    return line


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        done = lore("up", "--engine", "synthetic", "--port", port, data_dir=tmp_path)
    assert f"port {port}" in one_line(done)
    assert "--port" in one_line(done)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a port cannot be kept for somebody")
def test_a_port_that_was_found_is_there_for_its_finder_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two that looked at once were given the same one: the second could not listen there."""
    (port,) = fleet.free_ports(1)
    monkeypatch.setattr(fleet, "FREE_PORTS", range(port, port + 1))
    assert fleet.free_ports(1) == []
    with socket.create_server(("127.0.0.1", port)):
        assert fleet.free_ports(1) == []


def test_a_store_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    address = f"127.0.0.1:{fleet.free_ports(1)[0]}"
    done = lore(*UP, "--valkey-url", f"valkey://{address}", data_dir=tmp_path)
    assert address in one_line(done)


def test_a_store_url_that_is_none_is_one_line(tmp_path: Path) -> None:
    assert "valkey" in one_line(lore(*UP, "--valkey-url", "ftp://x", data_dir=tmp_path))


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    missing = str(tmp_path / "no-such-model.gguf")
    done = lore("up", "--port", "0", "--model", missing, data_dir=tmp_path)
    assert missing in one_line(done)


def test_a_setting_that_a_process_refuses_is_one_line(tmp_path: Path) -> None:
    done = lore(*UP, data_dir=tmp_path, LORE_LEASE_S="0")
    assert "generator-1" in one_line(done)
    assert "LORE_LEASE_S" in one_line(done)


def test_a_second_lore_up_in_one_data_directory_is_refused(up: Running) -> None:
    line = one_line(lore(*UP, data_dir=up.data_dir))
    assert up.edges[0] in line
    assert "--data-dir" in line


def test_asking_where_nobody_answers_is_one_line(tmp_path: Path) -> None:
    edge = f"http://127.0.0.1:{fleet.free_ports(1)[0]}"
    line = one_line(lore("ask", "Why?", "--edge", edge, data_dir=tmp_path))
    assert edge in line
    assert "lore up" in line


def test_a_bad_parameter_is_one_line_that_names_it(up: Running) -> None:
    line = one_line(lore("ask", "Why?", "--temperature", "9", data_dir=up.data_dir))
    assert "temperature" in line


def test_an_unknown_request_is_one_line(up: Running) -> None:
    one_line(lore("ask", "--resume", "nobody", data_dir=up.data_dir))


def test_status_without_a_lore_is_one_line(tmp_path: Path) -> None:
    assert "lore up" in one_line(lore("status", data_dir=tmp_path))
