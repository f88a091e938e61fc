"""Who looks at a page, and what may be offered there."""

from __future__ import annotations

from fastapi import Request

from modelyard.access.keyring import Principal
from modelyard.core.errors import Forbidden
from modelyard.core.names import is_loopback
from modelyard.gateway.rules import PRINCIPAL
from modelyard.gateway.sessions import session_of, token_of


class Caller:
    """A caller, as questions that pages ask. The guard has let it in; this says what is shown.

    Args:
        request: What it asks.
        is_guarded: Whether callers need a key here.
        may_change: Whether anybody may change something here.
        session: Of its browser; a new one if it had none.
    """

    def __init__(
        self, request: Request, *, is_guarded: bool, may_change: bool, session: str
    ) -> None:
        self.principal: Principal | None = request.scope.get(PRINCIPAL)
        self.is_guarded = is_guarded
        self.session = session
        self.token = token_of(session)
        self.is_inside = self.principal is not None or not is_guarded  # and so has a way about
        self.has_signed_in = is_guarded and session_of(request).startswith("k.")
        # Without keys a page that somebody else has made could reach us by a name of its own.
        is_here = is_loopback((request.url.hostname or "").strip("[]"))
        self._may_act = may_change and (is_guarded or is_here)
        self._host = request.client.host if request.client else ""

    @property
    def name(self) -> str:
        """Who it is, for the audit."""
        if self.principal is not None:
            return self.principal.id
        return f"somebody at {self._host}" if self._host else "somebody"

    @property
    def may_read(self) -> bool:
        """Whether it may see what is of no single model."""
        return self.principal is None or self.principal.scopes.may_read

    @property
    def is_admin(self) -> bool:
        """Whether it may see the keys of others."""
        return self.principal is None or self.principal.scopes.is_admin

    def may_see(self, model: str) -> bool:
        """Return whether a model is there for it."""
        return self.principal is None or self.principal.scopes.may_see(model)

    def may_predict(self, model: str) -> bool:
        """Return whether it may ask a model."""
        return self.principal is None or self.principal.scopes.may_predict(model)

    def may_release(self, model: str) -> bool:
        """Return whether it may change a model's route."""
        if not self._may_act:
            return False
        return self.principal is None or self.principal.scopes.may_release(model)

    def may_hear(self, model: str) -> bool:
        """Return whether it may read what a model prints and raises, which may quote inputs."""
        return self.principal is None or self.principal.scopes.may_release(model)

    def check_release(self, model: str) -> None:
        """See that it may change a model's route.

        Raises:
            Forbidden: It may not.
        """
        if not self.may_release(model):
            raise Forbidden(
                "routes are changed here with a key that has the scope release:MODEL, or, where "
                "no keys are needed, from this machine at a loopback address"
            )
