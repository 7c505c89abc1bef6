"""A real nginx in front of edges, as its package has it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lore.cli.fleet import free_ports
from tests import programs

_CONFIG = """
daemon off;
{user}
worker_processes 1;
pid {place}/pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {place}/body;
  proxy_temp_path {place}/proxy;
  fastcgi_temp_path {place}/fastcgi;
  uwsgi_temp_path {place}/uwsgi;
  scgi_temp_path {place}/scgi;
  server {{
    listen 127.0.0.1:{port};
    {locations}
  }}
}}
"""


@contextmanager
def nginx(place: Path, locations: str) -> Iterator[str]:
    """Serves ``locations`` until the block ends; gives its URL. Skips where there is no nginx."""
    (port,) = free_ports(1)
    config = place / "nginx.conf"
    user = "user root;" if place.owner() == "root" else ""
    config.write_text(_CONFIG.format(place=place, port=port, user=user, locations=locations))
    argv = ("nginx", "-e", "stderr", "-p", str(place), "-c", str(config))
    with programs.serving(port, *argv) as url:
        yield url
