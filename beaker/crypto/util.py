"""The standard library's hashes, at the path of Beaker up to 1.14; no cookie is signed with them."""

import hmac
from hashlib import md5, sha1

__all__ = ["hmac", "hmac_sha1", "md5", "sha1"]

hmac_sha1 = sha1
