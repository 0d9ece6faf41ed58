"""The middlewares of an application, found by importing it: what ``explain main:app`` reports on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from beaker.config.environment import Given
from beaker.config.options import SessionOptions, describe
from beaker.exceptions import BeakerException, ConfigError
from beaker.runtime import Runtime

__all__ = ["CODE", "Composed", "composed", "given_of"]

CODE = "explain.no-application"
_WITHIN = (
    "_wsgi", "wsgi", "wsgi_app", "_asgi", "asgi_app", "asgi_handler", "wrap_app", "app", "_app", "application",
    "_application",
)  # fmt: skip
"""Attributes by which middlewares, Beaker's and others', hold what they wrap."""
_DEEPEST = 50


class Composed(NamedTuple):
    """What stands around an application; ``what`` says in which objects it was found."""

    given: Given
    sessions: SessionOptions | None
    caches: Mapping[str, Any] | None
    runtime: Runtime | None
    what: str

    def __repr__(self) -> str:
        return f"<composed of {self.what}>"


def composed(name: str, directory: Path) -> Composed:
    """What ``module:attribute`` (default attribute: ``app``) is made of; modules of ``directory`` are found too.

    ConfigError with code ``explain.no-application`` when it cannot be imported or has nothing of Beaker in it, and
    what Beaker itself raises while it is imported.
    """
    outermost = _load(name, directory)
    given, seen = Given(), []
    sessions: SessionOptions | None = None
    caches: Mapping[str, Any] | None = None
    runtime: Runtime | None = None
    for layer in _layers(outermost, name):
        options = getattr(layer, "options", None)
        settings: Any = getattr(layer, "settings", None)
        if isinstance(getattr(settings, "session", None), SessionOptions):
            # The deployment kit's: it knows the origin of each option.
            given = given_of(settings)
            return Composed(given, settings.session, settings.cache, settings.runtime, type(layer).__name__)
        if isinstance(options, SessionOptions) and sessions is None:
            sessions, runtime = options, layer.context.runtime
            _note_session(given, options)
        elif isinstance(options, Mapping) and hasattr(layer, "cache_manager") and caches is None:
            caches = options
            _note_caches(given, options)
        else:
            continue
        seen.append(type(layer).__name__)
    if not seen:
        raise _no(name, "is not wrapped by a middleware of Beaker, as far as can be seen")
    return Composed(given, sessions, caches, runtime, ", ".join(seen))


def given_of(settings: Any) -> Given:
    """The origins of options that the deployment kit has parsed."""
    given = Given(origins=dict(settings.origins), variables=dict(settings.variables))
    _note_regions(given, settings.cache)
    return given


def _note_session(given: Given, options: SessionOptions) -> None:
    for name, option in describe(SessionOptions).items():
        value = getattr(options, name)
        if name == "backend":
            given.origins.update({f"session.{each}": "argument" for each in value})
        elif value != option.default:
            given.origins[f"session.{name}"] = "argument"


def _note_caches(given: Given, options: Mapping[str, Any]) -> None:
    general = {name: value for name, value in options.items() if name != "cache_regions"}
    given.origins.update({f"cache.{name}": "argument" for name in general})
    for region, own in options["cache_regions"].items():
        differing = [name for name, value in own.items() if general.get(name) != value]
        given.origins.update({f"cache.{region}.{name}": "argument" for name in differing})
    _note_regions(given, options)


def _note_regions(given: Given, options: Mapping[str, Any]) -> None:
    for region, own in options["cache_regions"].items():
        given.regions[region] = {name: own[name] for name in own if f"cache.{region}.{name}" in given.origins}


def _layers(app: Any, name: str) -> Iterator[Any]:
    pending: list[Any] = [app]
    seen: set[int] = set()
    while pending and len(seen) < _DEEPEST:
        layer = pending.pop(0)
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        yield layer
        # A bound method, as frameworks' `wsgi_app` is, leads back to its object.
        attributes = {**getattr(layer, "__dict__", {})}
        pending += [attributes[each] for each in _WITHIN if callable(attributes.get(each))]
        if attributes.get("user_middleware"):
            pending.append(_built(layer.build_middleware_stack, name))
        declared = getattr(layer, "middleware", None)
        if isinstance(declared, (list, tuple)):
            pending += [_built(partial(each, app=layer), name) for each in declared if callable(each)]


def _built(build: Callable[[], Any], name: str) -> Any:
    """What a framework builds of the middlewares that it was given: Starlette and FastAPI at the first request,
    Litestar for each of its routes.
    """
    try:
        return build()
    except BeakerException:
        raise
    except Exception as error:  # the application's own middlewares
        raise _no(name, f"cannot be built: {type(error).__name__}") from error


def _load(name: str, directory: Path) -> Any:
    module, _, attribute = name.partition(":")
    if not module:
        raise _no(name, "does not name a module")
    sys.path.insert(0, str(directory))
    try:
        found: Any = import_module(module)
    except BeakerException:
        raise
    except ImportError as error:
        raise _no(name, f"cannot be imported: {error}") from error
    except (Exception, SystemExit) as error:  # the application's own code runs
        raise _no(name, f"cannot be imported: {type(error).__name__}") from error
    finally:
        sys.path.remove(str(directory))
    for part in (attribute or "app").split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise _no(name, f"has no {part!r}") from None
    return found


def _no(name: str, why: str) -> ConfigError:
    return ConfigError(
        f"{name} {why}",
        option="APPLICATION",
        expected="module:attribute, as for gunicorn",
        code="explain.no-application",
    )
