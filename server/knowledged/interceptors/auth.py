"""Who calls, and may they? Every method needs one permission, named by its proto option."""

from collections.abc import Callable

from knowledged.access import PERMISSIONS
from knowledged.call import Call, Method, Principal
from knowledged.errors import Denied, Invalid, Unauthenticated, Violation
from knowledged.interceptors.hall import Handler

Authenticate = Callable[[str], Principal | None]

ANONYMOUS = Principal("anonymous", PERMISSIONS)

# Free text about the call, for the audit log: whom it is made for, and why.
_DECLARATIONS = ("x-on-behalf-of", "x-purpose")
_DECLARATION_CHARACTERS = 256


class Auth:
    """Gives each call its principal: by bearer token, or `ANONYMOUS` without `authenticate`."""

    def __init__(self, authenticate: Authenticate | None) -> None:
        self._authenticate = authenticate

    def __call__(self, method: Method, handler: Handler) -> Handler:
        if method.permission not in PERMISSIONS:
            raise ValueError(f"{method.path}: no role grants the permission {method.permission!r}")

        async def handle(call: Call, request: bytes) -> bytes:
            call.principal = self._principal(call)
            if method.permission not in call.principal.permissions:
                raise _denied(method)
            _check_declarations(call)
            return await handler(call, request)

        return handle

    def _principal(self, call: Call) -> Principal:
        # Taken out, so that no later log or error can show the token.
        header = call.metadata.pop("authorization", None)
        if self._authenticate is None:
            return ANONYMOUS
        if header is None:
            raise Unauthenticated("metadata authorization: needs `Bearer <token>`")
        principal = self._authenticate(_bearer_token(header))
        if principal is None:
            raise Unauthenticated("the token is not valid", reason="CREDENTIALS_INVALID")
        return principal


def _bearer_token(header: str) -> str:
    """The token, or an empty text, which authenticates nobody; the scheme is case-insensitive."""
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _denied(method: Method) -> Denied:
    return Denied(
        f"{method.name} needs the permission {method.permission}",
        permission=method.permission,
        method=method.path,
    )


def _check_declarations(call: Call) -> None:
    violations = [
        Violation(key, f"{len(value)} characters; at most {_DECLARATION_CHARACTERS}, printable")
        for key in _DECLARATIONS
        if (value := call.metadata.get(key))
        and (len(value) > _DECLARATION_CHARACTERS or not value.isprintable())
    ]
    if violations:
        raise Invalid(*violations)
