"""HTTP server of the daemon: metrics, health and the page of uniques, on a thread of its own.

Read-only: nothing it serves changes a decision. It binds before the model is loaded, so that a taken port
is refused at once and probes can watch the start. Probes and status are answered on the event loop and touch neither
disk nor device; all else runs on threads, which may hang on a disk that does not answer.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from typing import Self

import uvicorn
from anyio import CapacityLimiter, move_on_after, to_thread
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.ops.gallery.recorder import GalleryRecorder
from dugs_stream.ops.gallery.routes import page_routes
from dugs_stream.ops.gallery.search import UniquesPage
from dugs_stream.ops.http.access import AuthMiddleware
from dugs_stream.ops.http.hosts import HostMiddleware, HostNames
from dugs_stream.ops.status import Status

# Scrapes have threads of their own, so that pages which wait for a disk do not keep them waiting; one Prometheus asks for
# one at a time. Below the 10 s after which Prometheus gives up.
_SCRAPES = 4
_SCRAPE_SECONDS = 8.0
# uvicorn sees `should_exit` within 0.1 s and finishes open answers; none of these takes long.
_STOP_SECONDS = 5.0


def build_http(
    registry: CollectorRegistry,
    status: Status,
    uniques: UniquesPage,
    gallery: GalleryRecorder | None = None,
    expected: str | None = None,
) -> ASGIApp:
    """The application with all routes.

    gallery   thumbnails and duplicate counts; None: nothing is known
    expected  the Authorization header that all but the probes must carry, see `access.authorization`; None: any
    """
    scrapes = CapacityLimiter(_SCRAPES)

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        with move_on_after(_SCRAPE_SECONDS):
            page = await to_thread.run_sync(encode, registry, limiter=scrapes)
            return Response(page, headers={"content-type": content_type})
        return JSONResponse({"error": f"{_SCRAPES} earlier scrapes hang"}, status_code=503)

    async def alive(_request: Request) -> Response:
        hung = status.hung_seconds
        if hung is not None:
            return JSONResponse({"alive": False, "silent_seconds": round(hung)}, status_code=503)
        return JSONResponse({"alive": True})

    async def ready(_request: Request) -> Response:
        missing = status.missing
        return JSONResponse({"ready": not missing, "missing": missing}, status_code=503 if missing else 200)

    async def facts(_request: Request) -> Response:
        return JSONResponse(status.as_facts())

    app = Starlette(
        routes=[
            Route("/metrics", metrics),
            Route("/livez", alive),
            Route("/readyz", ready),
            Route("/api/status", facts),
            *page_routes(uniques, gallery or GalleryRecorder()),
        ]
    )
    return AuthMiddleware(app, expected)


class HttpServer:
    """A uvicorn server in a daemon thread; `with HttpServer(...)` serves until the block ends.

    allowed_hosts  names that it answers to beside those it is bound to, see `hosts.HostNames`
    """

    def __init__(self, app: ASGIApp, host: str, port: int, allowed_hosts: Sequence[str] = ()) -> None:
        self._socket = _bind(host, port)
        app = HostMiddleware(app, HostNames(host, (self._socket.getsockname()[0], *allowed_hosts)))
        self.port: int = self._socket.getsockname()[1]
        self._server = uvicorn.Server(
            uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", server_header=False)
        )
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="http", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.should_exit = True
        self._thread.join(_STOP_SECONDS)
        self._socket.close()


def _bind(host: str, port: int) -> socket.socket:
    """Bind now, so that a second daemon on this port fails before it does anything else."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        problem = Problem("http.host", f"{host!r} is not an address of this machine: {error.strerror}.")
        raise ConfigurationError([problem]) from error
    try:
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(128)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        message = f"cannot listen on {host}:{port}: {error.strerror or error}."
        hint = "Is another daemon running? Choose a free port with --set http.port=… (0 takes any)."
        raise ConfigurationError([Problem("http.port", message, hint)]) from error
    return listener
