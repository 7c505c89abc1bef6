"""Real proxies in front of an edge, as their packages have them, and one that nobody can tell."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from lore.cli.fleet import free_ports
from tests import programs
from tests.browser.nginx import nginx
from tests.examples.stack import EXAMPLES, NODE
from tests.services.holding_proxy import UNTIL_THE_END, holding_back_beside

Start = Callable[[Path, int], AbstractContextManager[str]]


@dataclass(frozen=True)
class Proxy:
    """``start``: in a folder, in front of an edge's port; gives its URL."""

    start: Start
    heeds: bool = True
    """It passes a stream on as it comes, by itself or because the edge's headers say so."""


def _nginx(directives: str) -> Start:
    def start(place: Path, edge: int) -> AbstractContextManager[str]:
        return nginx(place, f"location / {{ proxy_pass http://127.0.0.1:{edge}; {directives} }}")

    return start


def _configured(name: str, text: str, *command: str) -> Start:
    """A program whose configuration, in ``name``, names {port}, {edge} and {place}."""

    def start(place: Path, edge: int) -> AbstractContextManager[str]:
        (port,) = free_ports(1)
        config = place / name
        config.write_text(text.format(port=port, edge=edge, place=place))
        home = {"HOME": str(place), "XDG_CONFIG_HOME": str(place), "XDG_DATA_HOME": str(place)}
        return programs.serving(port, *command, str(config), env=home)

    return start


def _haproxy(frontend: str = "") -> Start:
    return _configured(
        "haproxy.cfg",
        f"""
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend all
  bind 127.0.0.1:{{port}}
  {frontend}
  default_backend edges
backend edges
  server edge 127.0.0.1:{{edge}}
""",
        *("haproxy", "-db", "-f"),
    )


def _caddy(directives: str = "") -> Start:
    """``buffer_requests``: Go 1.19, of which Debian's Caddy 2.6 is built, closes the connection to
    a server that answers before the proxy has read the end of the request, and that Caddy then
    ends the cut answer as if it were whole. It happens to any server, about once in 2,000."""
    return _configured(
        "Caddyfile",
        f"""
{{{{
  admin off
  auto_https off
}}}}
http://127.0.0.1:{{port}} {{{{
  {directives}
  reverse_proxy 127.0.0.1:{{edge}} {{{{
    buffer_requests
  }}}}
}}}}
""",
        *("caddy", "run", "--adapter", "caddyfile", "--config"),
    )


def _lighttpd(streams: int) -> Start:
    return _configured(
        "lighttpd.conf",
        f"""
server.document-root = "{{place}}"
server.bind = "127.0.0.1"
server.port = {{port}}
server.modules = ("mod_proxy")
server.stream-response-body = {streams}
proxy.server = ("" => (("host" => "127.0.0.1", "port" => {{edge}})))
""",
        *("lighttpd", "-D", "-f"),
    )


def _express(place: Path, edge: int) -> AbstractContextManager[str]:
    del place
    if not (EXAMPLES / "node_modules" / "http-proxy-middleware").exists():
        pytest.skip("http-proxy-middleware is not installed (make setup)")
    (port,) = free_ports(1)
    program = Path(__file__).with_name("express.mjs")
    return programs.serving(port, NODE, str(program), str(port), str(edge), folder=EXAMPLES)


def _holding(size: int) -> Start:
    return lambda _, edge: holding_back_beside(edge, size)


GZIP = "gzip on; gzip_types *; gzip_min_length 0; gzip_proxied any; gzip_http_version 1.0;"
HELD_BACK = "all held back until the end"
PROXIES: dict[str, Proxy] = {
    "none": Proxy(_holding(0)),
    "nginx": Proxy(_nginx("")),
    "nginx, proxy_buffering off": Proxy(_nginx("proxy_buffering off;")),
    "nginx, gzip": Proxy(_nginx(GZIP)),
    "nginx that ignores X-Accel-Buffering": Proxy(
        _nginx("proxy_ignore_headers X-Accel-Buffering;"), heeds=False
    ),
    "HAProxy": Proxy(_haproxy(), heeds=False),
    "HAProxy, http-no-delay": Proxy(_haproxy("option http-no-delay")),
    "HAProxy, http-no-delay, compression": Proxy(
        _haproxy(
            "option http-no-delay\n  compression algo gzip\n"
            "  compression type text/event-stream application/json"
        )
    ),
    "Caddy": Proxy(_caddy()),
    "Caddy, encode": Proxy(_caddy("encode gzip"), heeds=False),
    "Caddy, encode but for streams": Proxy(
        _caddy("encode gzip {{\n match {{\n  header Content-Type application/json*\n }}\n}}")
    ),
    "lighttpd, stream-response-body 1": Proxy(_lighttpd(1)),
    "lighttpd": Proxy(_lighttpd(0), heeds=False),
    "compression and http-proxy-middleware": Proxy(_express),
    "8 KiB held back": Proxy(_holding(8_192), heeds=False),
    "64 KiB held back": Proxy(_holding(65_536), heeds=False),
    HELD_BACK: Proxy(_holding(UNTIL_THE_END), heeds=False),
}
"""A line for each. "none" passes all on at once."""
