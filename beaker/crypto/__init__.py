"""Keys, signing, sealing and password-based derivation."""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    # The older interface: its module imports this package's own, which must be there first.
    if name in ("generateCryptoKeys", "get_crypto_module", "has_aes", "pbkdf2"):
        crypto = import_module("beaker.compat.crypto")
        return crypto.has_aes() if name == "has_aes" else getattr(crypto, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
