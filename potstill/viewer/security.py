"""Who may ask the server what: checked for every request before it reaches a run.

Other users of the machine can reach a port of the loopback interface, and so can any page in the user's browser. So
every call of the API needs a token that only the page's address held, the Host header must name this server exactly (a
page elsewhere may have pointed its own name at 127.0.0.1), and what a browser says comes from another site is refused.
"""

from __future__ import annotations

import hmac
import secrets
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

MIN_TOKEN = 32  # characters of a token that the user chose
API_PREFIX = "/api/"
SAFE_METHODS = ("GET", "HEAD")
LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")

HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            "font-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Refusal(NamedTuple):
    """Why a request is not answered."""

    status: int
    message: str
    expected: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Guard:
    """The rules of one server.

    Args:
        token: that every call of the API must bring.
        port: of the server; 0 for a Unix socket, whose Host header any name may stand in.
        trusted_hosts: further values of the Host header, such as that of a proxy.
    """

    token: str
    port: int
    trusted_hosts: Collection[str] = ()

    def refuse(self, method: str, path: str, headers: Mapping[str, str]) -> Refusal | None:
        """Why this request is refused; None where it may pass."""
        host = headers.get("Host", "")
        if not self._is_own_host(host):
            return self._refuse_host(host)
        if headers.get("Sec-Fetch-Site", "none") in ("cross-site", "same-site"):
            return Refusal(403, "the request comes from another site")
        origin = headers.get("Origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return Refusal(403, "the request comes from another origin")
        is_notes = method == "PUT" and path.startswith(API_PREFIX) and path.endswith("/notes")
        if method not in SAFE_METHODS and not is_notes:
            return Refusal(405, f"{method} is not answered", "GET and HEAD")
        if path.startswith(API_PREFIX) and not self._has_token(headers.get("Authorization", "")):
            return Refusal(
                401,
                "the token is missing or wrong",
                "Authorization: Bearer TOKEN, from the address that was printed",
            )
        return None

    def _refuse_host(self, host: str) -> Refusal:
        # Of this machine under another port it is most likely a tunnel: what to do is said.
        shown = host[:80]
        trusted = f"start the viewer with --trust-host {shlex.quote(shown)}"
        if not self.port:
            expected = "127.0.0.1 or localhost, with any port"
            return Refusal(403, f"this viewer does not answer as {shown!r}", expected, trusted)
        tunnel = f"ssh -L {self.port}:127.0.0.1:{self.port} HOST"
        return Refusal(
            403,
            f"this viewer does not answer as {shown!r}",
            f"127.0.0.1:{self.port} or localhost:{self.port}",
            f"through a tunnel the same port at both ends: {tunnel}; or {trusted}",
        )

    def _is_own_host(self, host: str) -> bool:
        # Exactly: `127.evil.com` begins as ours does.
        if host in self.trusted_hosts:
            return True
        if not self.port:
            # Who can open the socket is the user; a browser reaches it through ssh, under a port of its own.
            name = host.rpartition(":")[0] if ":" in host.rpartition("]")[2] else host
            return name in LOCAL_NAMES
        return host in {f"{name}:{self.port}" for name in LOCAL_NAMES}

    def _has_token(self, authorization: str) -> bool:
        token = authorization.removeprefix("Bearer ").encode("utf-8", "surrogatepass")
        # In constant time: how long a comparison takes must not tell the token.
        return hmac.compare_digest(token, self.token.encode("ascii"))


def make_token() -> str:
    """A random token."""
    return secrets.token_urlsafe(32)
