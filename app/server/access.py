"""Which requests the server answers, and the security headers of its answers.

A web page of another site must not reach the server through the browser of a user: neither under a
host name of its own (DNS rebinding) nor by opening a WebSocket from its own origin.
"""

import base64
import hashlib
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import streamlit as st
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.server.restart import INSTANCE, INSTANCE_HEADER, make_reload_script
from app.server.settings import LOOPBACK_HOSTS, list_hosts

# The charts compile their expressions to functions, which needs 'unsafe-eval'. The components set
# styles by attributes and by <style> elements.
_POLICY = {
    "default-src": "'self'",
    # Streamlit loads the script of a custom component from a blob.
    "script-src": "'self' 'unsafe-eval' blob:",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "worker-src": "'self' blob:",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
_HEADERS = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    # Requests to other sites carry no address. Those to this server do, which shows whether a
    # proxy changes the host name.
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    INSTANCE_HEADER: INSTANCE,
}
_HOST = re.compile(r"(?:([a-z0-9._-]+)|\[([0-9a-f:.]+)\])(?::[0-9]+)?")
_HIDDEN = re.compile(r"/_stcore/(metrics|agent)(/|$)")
"""Routes of Streamlit that the pages do not use: memory statistics, and an interface for agents."""


class AccessMiddleware:
    """Refuse requests for unknown hosts and from foreign origins, and add security headers.

    This is plain ASGI, because the base class of Starlette for middleware reads the bodies of
    uploads.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.policy = _make_policy()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                answer = MutableHeaders(raw=message["headers"])
                answer.update(_HEADERS)
                answer["Content-Security-Policy"] = self.policy + sources
            await send(message)

        headers = Headers(scope=scope)
        refusal = _refuse(scope, headers)
        host = headers.get("host", "")
        # For WebSockets, 'self' is not enough in older versions of WebKit.
        sources = f"; connect-src 'self' ws://{host} wss://{host}" if is_known_host(host) else ""
        if refusal is None:
            if "origin" in headers:
                _replace_origin(scope, headers)
            await self.app(scope, receive, send_with_headers)
        elif scope["type"] == "http" or "websocket.http.response" in scope.get("extensions", {}):
            await refusal(scope, receive, send_with_headers)
        else:
            await send({"type": "websocket.close", "code": 1008})


def _refuse(scope: Scope, headers: Headers) -> Response | None:
    """Return the answer to a request that is refused, None for other requests."""
    hosts = headers.getlist("host")
    host = hosts[0] if len(hosts) == 1 else ""
    if not is_known_host(host):
        return PlainTextResponse(
            f"Unknown host name {host[:100]!r}. Expected {', '.join(LOOPBACK_HOSTS)} or a name in "
            "the option server.allowedHosts: see docs/deployment.md.\n",
            400,
        )
    if _HIDDEN.search(scope["path"]):
        return PlainTextResponse("Not found\n", 404)
    pages = [headers[name] for name in ("origin", "referer") if name in headers]
    foreign = next((page for page in pages if not _is_same_host(page, host)), None)
    if foreign and scope["path"].endswith(".js"):
        # The page stays empty, because its WebSocket is going to be refused. This script is the
        # only part of it that can show the reason. A page of another site cannot read it.
        text = json.dumps(_describe_mismatch(foreign, host))
        return Response(
            f"document.body.textContent = {text};\n",
            media_type="text/javascript",
            headers={"Cache-Control": "no-store"},
        )
    if foreign and "origin" in headers:
        return PlainTextResponse(f"{_describe_mismatch(foreign, host)}\n", 403)
    return None


def is_known_host(host: str) -> bool:
    """Return whether a Host header names this server; `*.example.org` allows all subdomains."""
    found = _HOST.fullmatch(host.lower())
    name = (found[1] or found[2]).rstrip(".") if found else ""
    return bool(name) and any(
        name.endswith(allowed[1:]) if allowed.startswith("*.") else allowed in (name, "*")
        for allowed in list_hosts()
    )


def _is_same_host(url: str, host: str) -> bool:
    """Return whether a page at the URL belongs to this server or to an origin that is allowed."""
    origin, netloc = _parse_origin(url)
    allowed = st.get_option("server.corsAllowedOrigins")
    return netloc == host.lower() or origin in {name.lower().rstrip("/") for name in allowed}


def _parse_origin(url: str) -> tuple[str, str]:
    """Return the origin of a URL, and its host and port; empty strings for an invalid URL."""
    try:
        parts = urlsplit(url.lower())
    except ValueError:
        return "", ""
    return f"{parts.scheme}://{parts.netloc}", parts.netloc


def _describe_mismatch(url: str, host: str) -> str:
    address = _parse_origin(url)[1] or url
    return (
        f"The browser uses the address {address[:100]!r}, but the server received "
        f"{host[:100]!r}. If a proxy is in between, it must keep the Host header: see "
        "docs/deployment.md. Otherwise, another site tried to use this server."
    )


def _replace_origin(scope: Scope, headers: Headers) -> None:
    """Give Streamlit an origin that equals the host.

    For any other origin, Streamlit looks up the public address of the machine at a third party,
    and all users wait for the result. The origin was already checked here.
    """
    scheme = _parse_origin(headers["origin"])[0].partition(":")[0]
    origin = f"{scheme}://{headers['host']}".encode("latin-1")
    scope["headers"] = [
        (name, origin if name == b"origin" else value) for name, value in scope["headers"]
    ]


def _make_policy() -> str:
    """Return the content security policy, with the hashes of the inline scripts."""
    index = Path(st.__file__).parent / "static/index.html"
    scripts = re.findall(r"<script>(.*?)</script>", index.read_text(encoding="utf-8"), re.DOTALL)
    scripts.append(make_reload_script())
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    policy = dict(_POLICY)
    policy["script-src"] += "".join(f" 'sha256-{digest}'" for digest in hashes)
    return "; ".join(f"{name} {sources}" for name, sources in policy.items())
