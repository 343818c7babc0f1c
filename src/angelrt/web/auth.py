"""Who asks, and what they may: roles by token, by session cookie, or by a dependency of the host app; and the defence against forgery."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from ..errors import ConfigError
from .errors import Refused
from .hosts import is_loopback
from .tries import Tries

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

Role = Literal["reader", "operator"]
Authenticate: TypeAlias = "Callable[[Request], Awaitable[Role | None]]"

COOKIE: Final = "angelrt_session"
SESSION_S: Final = 12 * 3600
TOKEN_MIN_CHARS: Final = 16
TOKEN: Final = re.compile(r"[!-~]+")
SESSION: Final = re.compile(r"(\d{1,12})\.([0-9a-f]{32})\.([0-9a-f]{64})")
WHO_CHARS: Final = 8
COOKIE_CHARS: Final = 12
LOGIN_NEEDED: Final = "log in, or send `Authorization: Bearer TOKEN`"
FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-real-ip")
"""By these a proxy says that somebody else asks."""
JSON_TYPE: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks. `is_ambient` says that a browser sends along what identifies them, whichever site has made it ask."""

    role: Role | None
    who: str
    is_ambient: bool


NOBODY: Final = Identity(None, "", is_ambient=False)


class Access:
    """The tokens and the dependency that give roles."""

    def __init__(self, readers: Sequence[str], operators: Sequence[str], auth: Authenticate | None) -> None:
        """Check the tokens. Raises ConfigError for one that could be guessed, or that gives two roles."""
        tokens = [(token, _check_token(token)) for token in (*_listed("readers", readers), *_listed("operators", operators))]
        self._roles: list[tuple[bytes, Role]] = [(key, "operator" if token in operators else "reader") for token, key in tokens]
        if set(readers) & set(operators):
            message = "rt.web(readers=, operators=): a token stands in both; give each role tokens of its own"
            raise ConfigError(message)
        self._auth = auth
        self._own = hashlib.sha256(b"\0".join(sorted(key for key, _ in self._roles))).digest()
        self.tries = Tries()

    @property
    def is_required(self) -> bool:
        """Whether somebody without a role is turned away."""
        return bool(self._roles) or self._auth is not None

    @property
    def has_tokens(self) -> bool:
        """Whether one can log in with a token."""
        return bool(self._roles)

    def cookie(self, path: str) -> str:
        """Return the name of this app's cookie where it is mounted at a path.

        Browsers share the cookies of a host among its ports and paths, so under one name two apps would log each other out.
        """
        return f"{COOKIE}_{hmac.new(self._own, path.encode(), hashlib.sha256).hexdigest()[:COOKIE_CHARS]}"

    async def identify(self, request: Request) -> Identity:
        """Return who asks. Raises Refused for another machine where no authentication is configured, and after too many wrong tokens."""
        if not self.is_required:
            return _local(request)
        token = bearer_token(request)
        found = self._by_cookies(request) if token is None else self._by_token(token)
        if found.role is None and self._auth is not None:
            role = await self._auth(request)
            if role not in ("reader", "operator", None):
                message = f'rt.web(auth=): it returns "reader", "operator" or None, not {role!r}'
                raise ConfigError(message)
            found = Identity(role, _host_user(request), is_ambient=token is None)
        if found.role is None and token is not None and self.has_tokens:
            self.tries.count(client_address(request))
        return found

    def new_session(self, token: str) -> str | None:
        """Return a session for a token, without the token in it; None for a token that is not known. It ends with its token."""
        given, found = token.encode(), None
        for key, _ in self._roles:
            found = key if hmac.compare_digest(key, given) else found
        if found is None:
            return None
        head = f"{int(time.time()) + SESSION_S}.{secrets.token_hex(16)}"
        return f"{head}.{_sealed(found, head)}"

    def _by_token(self, token: str) -> Identity:
        given, found = token.encode(), NOBODY
        for key, role in self._roles:  # all of them, so that the time tells nothing
            found = Identity(role, _who(key), is_ambient=False) if hmac.compare_digest(key, given) else found
        return found

    def _by_cookies(self, request: Request) -> Identity:
        """Return who one of the cookies names: of a name there may be several, and one that is over says nothing of the others."""
        found = map(self._by_session, _cookies(request, self.cookie(mounted_at(request))))
        return next((identity for identity in found if identity.role is not None), NOBODY)

    def _by_session(self, session: str) -> Identity:
        parts = SESSION.fullmatch(session)
        found = NOBODY
        if parts is None or int(parts[1]) < time.time():
            return found
        head, given = f"{parts[1]}.{parts[2]}", parts[3].encode()
        for key, role in self._roles:
            found = Identity(role, _who(key), is_ambient=True) if hmac.compare_digest(_sealed(key, head).encode(), given) else found
        return found


def mounted_at(request: Request) -> str:
    """Return the path at which the app is mounted; empty at the root."""
    path: str = request.scope.get("root_path", "")
    return path


def _cookies(request: Request, name: str) -> Iterator[str]:
    """Yield the values of all cookies of a name; Starlette's own `cookies` keep one."""
    for part in ";".join(request.headers.getlist("cookie")).split(";"):
        found, _, value = part.partition("=")
        if found.strip() == name:
            yield value.strip()


def _listed(name: str, tokens: Sequence[str]) -> Sequence[str]:
    if isinstance(tokens, str):
        message = f"rt.web({name}=) is a list of tokens, not one text"
        raise ConfigError(message)
    return tokens


def _check_token(token: str) -> bytes:
    if not isinstance(token, str) or len(token) < TOKEN_MIN_CHARS or not TOKEN.fullmatch(token):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
        message = (
            f"rt.web(readers=, operators=): a token is at least {TOKEN_MIN_CHARS} letters, digits or signs without spaces; make one with "
            "`python -c 'import secrets; print(secrets.token_urlsafe(32))'`"
        )
        raise ConfigError(message)
    return token.encode()


def _sealed(key: bytes, head: str) -> str:
    return hmac.new(key, f"angelrt session {head}".encode(), hashlib.sha256).hexdigest()


def _who(key: bytes) -> str:
    return f"token {hashlib.sha256(key).hexdigest()[:WHO_CHARS]}"


def client_address(request: Request) -> str:
    """Return the address of the connection; empty where the server does not say it."""
    return request.client.host if request.client else ""


def _local(request: Request) -> Identity:
    host = client_address(request)
    is_handed_on = any(name in request.headers for name in FORWARDED)
    if is_handed_on or (host and not is_loopback(host)):
        message = "this app has no authentication and serves this machine alone; configure readers=, operators= or auth= of rt.web()"
        raise Refused(403, "AuthenticationNotConfigured", message)
    return Identity("operator", "this machine", is_ambient=False)


def _host_user(request: Request) -> str:
    name = getattr(request.scope.get("user"), "display_name", "")
    return str(name)[:100] if name else "host app"


def bearer_token(request: Request) -> str | None:
    """Return the token of the Authorization header; None where there is none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def allow(identity: Identity, needed: Role, *, is_required: bool) -> None:
    """Raise Refused for those who may not: 401 without a role, 403 for a reader where an operator is needed."""
    if identity.role is None and is_required:
        raise Refused(401, "NotAuthenticated", f"this needs the role {needed}: {LOGIN_NEEDED}", headers={"WWW-Authenticate": "Bearer"})
    if needed == "operator" and identity.role != "operator":
        raise Refused(403, "NotAllowed", "this needs the role operator, and you are a reader: log in with the token of an operator")


def refuse_forgery(request: Request, identity: Identity) -> None:
    """Raise Refused for a change that another site may have made a browser ask for.

    With a bearer token nothing is checked: no other site can make a browser send one. With a cookie, or what a host app goes by, the
    request is JSON and says that it comes from this very site. Where there is no authentication at all, it may be silent about that, as
    programs are; a browser never is when another site asks.
    """
    if bearer_token(request) is not None:
        return
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON_TYPE:
        raise Refused(415, "NotJson", f"send `Content-Type: {JSON_TYPE}`, with {{}} where there is nothing to say")
    same = is_same_origin(request)
    if same is False or (same is None and identity.is_ambient):
        raise Refused(403, "OtherOrigin", "a change is asked for from the page itself (Origin, Sec-Fetch-Site), or with a bearer token")


def is_same_origin(request: Request) -> bool | None:
    """Tell whether a browser says that this very site asks; None when it says nothing."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    if origin is None:
        return None
    try:
        from_there, here = urlsplit(origin), urlsplit(f"{urlsplit(origin).scheme}://{request.headers.get('host', '')}")
        return from_there.scheme in ("http", "https") and _place(from_there.hostname, from_there.port, from_there.scheme) == _place(
            here.hostname, here.port, here.scheme
        )
    except ValueError:
        return False


def _place(host: str | None, port: int | None, scheme: str) -> tuple[str | None, int]:
    return host, port or (443 if scheme == "https" else 80)


def keep_session(access: Access, request: Request, response: Response, session: str) -> None:
    """Let the browser keep a session, for this app's paths alone, out of reach of scripts and of other sites."""
    path = mounted_at(request)
    is_secure = request.url.scheme == "https" or request.headers.get("origin", "").startswith("https:")  # as seen before a proxy
    name = access.cookie(path)
    response.set_cookie(name, session, max_age=SESSION_S, path=path or "/", secure=is_secure, httponly=True, samesite="strict")


def forget_session(access: Access, request: Request, response: Response) -> None:
    """Let the browser forget the session."""
    path = mounted_at(request)
    response.delete_cookie(access.cookie(path), path=path or "/", httponly=True, samesite="strict")
