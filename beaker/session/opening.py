"""How a session is built: the classes of the manual, and the one way from a configuration to a session."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from beaker.config.coerce import wrong
from beaker.exceptions import ConfigError
from beaker.session.backends import SessionBackend
from beaker.session.base import BaseSession
from beaker.session.context import SessionContext
from beaker.session.shared import context_of
from beaker.session.snapshot import chosen_id, id_text, raw_id

__all__ = ["CookieSession", "Opener", "Session", "configured", "legacy_reader", "opener"]

_SIGNATURES = {"key": "beaker.session.id", "cookie_expires": True, "use_cookies": True, "invalidate_corrupt": False}
"""What the signatures of the classes below fill in (manual 5.1.4): a prefixed option wins over it."""


def configured(options: dict[str, Any]) -> tuple[SessionContext, float | None]:
    """The ``context`` and ``began`` among the keywords a class was called with; without the first one, the others'.

    Equal options have one context, see :func:`~beaker.session.shared.context_of`.
    """
    context, began = options.pop("context", None), options.pop("began", None)
    return context_of(options, weak=_SIGNATURES) if context is None else context, began


class Opener:
    """Opens the sessions of one configuration: that of a request's cookie, or the one with a raw id.

    ``began`` is when the request began, in seconds since the epoch. Raises ConfigError at construction for a
    ``session.legacy`` that cannot be used.
    """

    def __init__(self, context: SessionContext) -> None:
        self.context = context
        self.backend = _backend_of(context)
        reader = legacy_reader(context)
        if reader is not None:
            self.backend = reader.taking_over(self.backend)
        usual: Any = CookieSession if context.type == "cookie" else Session
        self.session_class = context.options.session_class or usual
        # A chosen class may have a constructor of its own. Ours only translate the manual's arguments.
        self._direct = self.session_class is usual

    def beside(self, id: str | None = None) -> BaseSession:
        """A session besides the visitor's, without a cookie: a new one, or the stored one with this id.

        It is in the store if the type has one, else its cookie is ``cookie_out`` in its ``request``, as after every
        save without an environ.
        """
        if self.context.type != "hybrid":
            return self({}, None if id is None else raw_id(id) or b"")
        session = Session.__new__(Session)
        raw = None if id is None else raw_id(id) or b""
        BaseSession.__init__(session, {}, self.context, _stored(self.context), raw)
        return session

    def __call__(self, request: Mapping[str, Any], id: bytes | None = None, began: float | None = None) -> BaseSession:
        if self._direct and id is None:
            session: BaseSession = self.session_class.__new__(self.session_class)
            BaseSession.__init__(session, request, self.context, self.backend, None, began)
            return session
        named = {} if id is None else {"id": id_text(id)}
        return cast(BaseSession, self.session_class(request, context=self.context, began=began, **named))


def _stored(context: SessionContext) -> SessionBackend:
    # What is asked for by its id is in the store, where a hybrid session that its cookie carries is not.
    if context.type != "hybrid":
        return opener(context).backend
    from beaker.session.backends.server import ServerBackend

    return ServerBackend(context)


def _backend_of(context: SessionContext) -> SessionBackend:
    # Each when it is used: a process with sessions in cookies needs no stores.
    if context.type == "cookie":
        from beaker.session.backends.cookie import CookieBackend

        return CookieBackend(context)
    if context.type == "hybrid":
        from beaker.session.backends.hybrid import HybridBackend

        return HybridBackend(context)
    from beaker.session.backends.server import ServerBackend

    return ServerBackend(context)


def opener(context: SessionContext) -> Opener:
    """The one opener of this configuration."""
    return context.shared(Opener)


def legacy_reader(context: SessionContext) -> Any:
    """What reads sessions of an older Beaker as the option ``session.legacy`` says; ``None`` without that option.

    Raises ConfigError for an option that cannot be used.
    """
    return None if context.options.legacy is None else context.shared(_legacy_reader)


def _legacy_reader(context: SessionContext) -> Any:
    from beaker.session.legacy.takeover import LegacyReader

    return LegacyReader(context.options.legacy, context)


class Session(BaseSession):
    """A session whose data is in a store; see :class:`~beaker.session.base.BaseSession`.

    The arguments are the manual's (5.1.4); every session option is taken as a keyword.
    """

    def __init__(
        self,
        request: Mapping[str, Any],
        id: str | None = None,
        invalidate_corrupt: bool = False,
        use_cookies: bool = True,
        type: str | None = None,
        data_dir: str | None = None,
        key: str = "beaker.session.id",
        timeout: float | None = None,
        cookie_expires: Any = True,
        cookie_domain: str | None = None,
        secret: Any = None,
        secure: bool | None = False,
        namespace_class: Any = None,
        **namespace_args: Any,
    ) -> None:
        if namespace_args.get("context") is None:
            namespace_args.update(
                invalidate_corrupt=invalidate_corrupt,
                use_cookies=use_cookies,
                type=type,
                data_dir=data_dir,
                key=key,
                timeout=timeout,
                cookie_expires=cookie_expires,
                cookie_domain=cookie_domain,
                secret=secret,
                secure=secure or None,
                namespace_class=namespace_class,
            )
        context, began = configured(namespace_args)
        if context.type == "cookie":
            raise ConfigError(
                "sessions of type 'cookie' have no store, and Session is for those that have one",
                option="session.type",
                expected="a server-side type, or hybrid",
                hint="CookieSession is the class of this type",
            )
        raw = None if id is None else raw_id(id) or b""
        if id and not raw and not context.options.use_cookies:
            if not isinstance(id, str):
                raise wrong("id", id, "a text, such as 'abc.progress'")
            raw = self._chosen_id = chosen_id(id)
        super().__init__(request, context, _stored(context) if raw else opener(context).backend, raw, began)


class CookieSession(BaseSession):
    """A session kept in the cookie; see :class:`~beaker.session.base.BaseSession`.

    The arguments are the manual's (5.1.4); every session option is taken as a keyword. ``validate_key``
    signs; with ``encrypt_key`` the content cannot be read either. Name plus value of the cookie are at most
    ``cookie_max`` (4,096) bytes, else SessionTooLarge. Pickled values are refused (UnserializableValue).
    """

    def __init__(
        self,
        request: Mapping[str, Any],
        key: str = "beaker.session.id",
        timeout: float | None = None,
        cookie_expires: Any = True,
        cookie_domain: str | None = None,
        encrypt_key: Any = None,
        validate_key: Any = None,
        secure: bool | None = False,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("context") is None:
            kwargs.update(
                type="cookie",
                key=key,
                timeout=timeout,
                cookie_expires=cookie_expires,
                cookie_domain=cookie_domain,
                encrypt_key=encrypt_key,
                validate_key=validate_key,
                secure=secure or None,
            )
        context, began = configured(kwargs)
        super().__init__(request, context, opener(context).backend, began=began)
