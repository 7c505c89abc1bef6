"""The page and its files."""

from pathlib import Path
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from lore_edge.admission.served_model import ServedModel
from lore_edge.api.status import StatusFigures
from lore_edge.reference.docs import render
from lore_edge.reference.openapi import document
from lore_edge.settings import EdgeSettings
from lore_edge.wire.errors import ApiError

WEB = Path(__file__).parents[1] / "web"
UNUSED = ("camera", "display-capture", "geolocation", "microphone", "payment", "usb")
"""Browser features that the page does not need, and that no injected script may use.

Strict-Transport-Security is missing on purpose: the proxy that terminates TLS sends it.
"""


def web_routes(settings: EdgeSettings, served: ServedModel) -> list[BaseRoute]:
    headers = {
        "Content-Security-Policy": "; ".join(
            [
                "default-src 'none'",
                "script-src 'self'",
                "style-src 'self'",
                "img-src 'self' data:",
                "font-src 'self'",
                " ".join(["connect-src 'self'", *map(_source, settings.edges)]),
                "base-uri 'none'",
                "form-action 'self'",
                "frame-ancestors 'none'",
            ]
        ),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": ", ".join(f"{feature}=()" for feature in UNUSED),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }

    files = _Files(headers)

    async def page(request: Request) -> Response:
        return await files.get_response("index.html", request.scope)

    docs = render(document(settings.request_limits))

    async def description(_: Request) -> Response:
        return HTMLResponse(docs, headers=headers)

    async def config(_: Request) -> Response:
        return JSONResponse(
            {
                "edges": [*settings.edges],
                "edge": settings.edge_id,
                "model": await served.shown() or None,
                "auth": settings.auth == "required",
            },
            headers=headers,
        )

    async def status(request: Request) -> Response:
        return await files.get_response("status.html", request.scope)

    routes: list[BaseRoute] = [
        Route("/", page),
        Route("/docs", description),
        Route("/web/config.json", config),
        Mount("/web", files),
    ]
    if settings.prometheus_url:
        figures = StatusFigures(settings.prometheus_url).figures
        routes += [Route("/status", status), Route("/status/figures", figures)]
    else:
        routes.append(Route("/status", _no_status))
    return routes


async def _no_status(_: Request) -> Response:
    message = "no plots here: LORE_PROMETHEUS_URL names no Prometheus (make monitor starts one)"
    raise ApiError(404, "not_found", message)


def _source(edge: str) -> str:
    """An edge as a source in the policy. With a slash at its end, a path would allow only that
    exact path.
    """
    return f"{edge}/" if urlsplit(edge).path else edge


class _Files(StaticFiles):
    """The files of the page, each whole and with the page's headers: ``Range`` may be ignored, and
    a malformed one must be (RFC 9110 section 14.2).
    """

    def __init__(self, headers: dict[str, str]) -> None:
        # web/client is a symbolic link, unless it was built into a package.
        super().__init__(directory=WEB, follow_symlink=True)
        self._headers = {**headers, "Accept-Ranges": "none"}

    async def get_response(self, path: str, scope: Scope) -> Response:
        scope["headers"] = [field for field in scope["headers"] if field[0] != b"range"]
        response = await super().get_response(path, scope)
        response.headers.update(self._headers)
        return response
