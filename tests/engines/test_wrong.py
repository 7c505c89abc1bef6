"""An engine over HTTP that is not as it should be: it is named in one line, and waited for."""

import ssl
from pathlib import Path

import pytest
import trustme

from tests.engines.running import LONG, QUICK, Running
from tests.engines.stub import WHOLE, Stub

CASES = {
    "another kind": ("sick", "garbage", {}, ""),
    "another model": ("model", "another", {"model": "stub"}, "it serves another, and not stub"),
    "a shorter context": (
        *("context_tokens", 100, {"context_tokens": 200}),
        "its context is 100 tokens, and LORE_CONTEXT_TOKENS is 200",
    ),
    "no ids": ("with_ids", False, {}, "no token ids"),
    "a wrong key": ("key", "secret", {}, "it refuses the key (LORE_ENGINE_KEY_FILE): HTTP 401"),
    "none of its calls": ("sick", "404", {}, "server: HTTP 404"),
    "none behind a proxy": ("sick", "503", {}, "HTTP 503: sick"),
    "a redirect": ("sick", "redirect", {}, "it redirects to http://elsewhere.example/"),
    "JSON without an end": ("sick", "deep", {}, "is not a JSON object"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_engine_is_refused_at_the_start_and_taken_once_it_is_right(
    stub: Stub, options: dict[str, object], case: str
) -> None:
    attribute, value, more, said = CASES[case]
    right = getattr(stub, attribute)
    setattr(stub, attribute, value)
    running = Running(stub.dialect, stub.url, **(options | more))
    running.start_in_thread()
    try:
        running.until_trouble(said or stub.url)
        assert "\n" not in running.engine.trouble()
        setattr(stub, attribute, 4096 if attribute == "context_tokens" else right)
        running.until_started()
        assert running.whole("at-last", LONG)[0] == WHOLE
    finally:
        running.engine.stop()


@pytest.mark.parametrize("path", ["/apply-template", "/tokenize", "/detokenize"])
def test_a_server_that_lacks_a_call_is_refused_before_a_request_finds_out(path: str) -> None:
    """As behind a gateway. It would go up and down with each request."""
    with Stub("llamacpp") as stub, Stub("llamacpp") as whole:
        stub.lacks = path
        with Running("llamacpp", stub.url, whole.url, **QUICK) as running:
            whole.kill()
            running.until_trouble(
                f"{stub.url}: it lacks a call that Lore needs: HTTP 404: no {path}"
            )


def test_a_certificate_is_judged_by_the_authorities_that_are_named(tmp_path: Path) -> None:
    """And an address without TLS by none."""
    authority, tls = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    with Stub("llamacpp", tls) as stub:
        with Running("llamacpp", stub.url, ca_file=file, **QUICK) as running:
            assert running.whole("trusted", LONG)[0] == WHOLE
        plain = stub.url.replace("https", "http")
        for url, said in ((stub.url, "LORE_ENGINE_CA_FILE"), (plain, "does it speak TLS?")):
            running = Running("llamacpp", url, **QUICK)
            running.start_in_thread()
            try:
                running.until_trouble(said)
                assert "\n" not in running.engine.trouble()
            finally:
                running.engine.stop()


def test_a_key_is_read_from_a_file(stub: Stub, options: dict[str, object], tmp_path: Path) -> None:
    stub.key, file = "secret", tmp_path / "key"
    file.write_text("secret\n")
    with Running(stub.dialect, stub.url, key_file=file, **options) as running:
        assert running.whole("let-in", LONG)[0] == WHOLE


def test_a_key_that_an_engine_repeats_is_not_told(stub: Stub, tmp_path: Path) -> None:
    stub.key, file = "right", tmp_path / "key"
    file.write_text("secret\n")
    running = Running(stub.dialect, stub.url, key_file=file, **QUICK)
    running.start_in_thread()
    try:
        running.until_trouble("HTTP 401: wrong key: Bearer …")
    finally:
        running.engine.stop()


def test_a_server_without_tls_is_told_from_a_certificate_that_is_refused() -> None:
    with Stub("llamacpp") as stub:
        running = Running("llamacpp", stub.url.replace("http:", "https:"), **QUICK)
        running.start_in_thread()
        try:
            running.until_trouble("does it speak plain HTTP?")
        finally:
            running.engine.stop()


def test_a_host_name_that_there_is_not_is_named() -> None:
    running = Running("llamacpp", "http://engine.invalid:8000", **QUICK)
    running.start_in_thread()
    try:
        running.until_trouble("its host name does not resolve")
    finally:
        running.engine.stop()


def test_a_key_file_that_is_not_there_is_one_clear_line(stub: Stub, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"LORE_ENGINE_KEY_FILE: cannot read .*: No such file"):
        Running(stub.dialect, stub.url, key_file=tmp_path / "none")


@pytest.mark.parametrize("sick", ["500", "404", "garbage", "hang", "deep", "redirect"])
def test_an_engine_that_is_none_is_named_in_one_line_and_waited_for(
    stub: Stub, running: Running, sick: str
) -> None:
    stub.sick = sick
    running.until_trouble(stub.url)
    assert "\n" not in running.engine.trouble()
    stub.sick = ""
    running.until_trouble("")
