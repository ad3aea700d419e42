"""Who may ask: under which names the server answers, from which pages it takes a picture, and the token."""

import hashlib
import hmac
import ipaddress
import re
import secrets
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie

from starlette.requests import Request

from tellapart.data.sources.listing import shown
from tellapart.errors import UsageError
from tellapart.web.refusal import Refusal

NAME = r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)"
HOST = re.compile(NAME + "(:[0-9]{1,5})?", re.I | re.A)
LOCAL = ("localhost", "127.0.0.1", "[::1]")
SHORTEST = 16
"""Letters of a token at least."""


class Guard:
    """The rules of one server. `hosts`: names beside those of this machine for itself; token "": everyone may ask.

    A page of another site, or one whose name was made to point here (DNS rebinding), gets nothing. Raises UsageError
    for a host that no request can name.
    """

    def __init__(self, *, hosts: Collection[str] = (), token: str = "") -> None:
        for name in hosts:
            if not re.fullmatch(NAME, name, re.I | re.A):
                said = f"'{shown(name[:100])}' is no name of a host, which looks like box.example or 192.0.2.1."
                raise UsageError(said, "Leave out https://, the port and the path; an address of IPv6 stands in [].")
        self.hosts = {name.lower() for name in (*LOCAL, *hosts)}
        self.token = token.encode()
        self._session = hmac.digest(secrets.token_bytes(32), self.token, hashlib.sha256).hex()

    def check(self, request: Request) -> None:
        """Raises Refusal for a name that is not the server's (421), or for what a page of another site asks (403)."""
        host = request.headers.get("host", "")
        if not self._is_ours(host, request):
            said = "This server does not answer to that name."
            raise Refusal(421, "unknown_host", said, "Start it with --allow-host NAME to answer to another one.")
        origin = request.headers.get("origin")
        if origin is not None and origin.lower() not in {f"{scheme}://{host.lower()}" for scheme in ("http", "https")}:
            raise _elsewhere()
        if request.headers.get("sec-fetch-site", "none") == "cross-site" and request.method not in ("GET", "HEAD"):
            raise _elsewhere()

    def _is_ours(self, host: str, request: Request) -> bool:
        found = HOST.fullmatch(host)
        if not found:
            return False
        name, (here, _) = found[1].lower(), request.scope.get("server") or ("", 0)
        return name in self.hosts or _same_address(name.strip("[]"), here)

    def admit(self, request: Request) -> None:
        """Raises Refusal (401) for who has not shown the token, as a bearer or by the cookie that `enter` gives."""
        if not self.token or self._bears(request) or _equal(self._cookie(request), self._session):
            return
        raise Refusal(
            401,
            "token_needed",
            "This server asks for its token.",
            "Send it as: Authorization: Bearer TOKEN.",
            WWW_Authenticate="Bearer",
        )

    def _bears(self, request: Request) -> bool:
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and hmac.compare_digest(given.encode("utf-8", "replace"), self.token)

    def _cookie(self, request: Request) -> str:
        try:
            found = SimpleCookie(request.headers.get("cookie", "")).get(self._name(request))
        except CookieError:
            return ""
        return found.value if found else ""

    def cookie(self, request: Request) -> str:
        """What a browser keeps that has shown the token: not the token itself, and of no use after its end."""
        return f"{self._name(request)}={self._session}; Path=/; HttpOnly; SameSite=Strict"

    def _name(self, request: Request) -> str:
        """Cookies know no ports: two servers on a machine have one each."""
        return f"tellapart-{(request.scope.get('server') or ('', 0))[1]}"


def _same_address(name: str, here: str) -> bool:
    """Whether a name is the very address that was called: a page elsewhere has a name, which must be on the list."""
    try:
        return ipaddress.ip_address(name) == ipaddress.ip_address(here)
    except ValueError:
        return False


def _elsewhere() -> Refusal:
    return Refusal(403, "other_origin", "A page of another site asked.", "Open this server's own page.")


def _equal(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())
