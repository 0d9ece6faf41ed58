"""The standard library's hashes, at the older path; no cookie is signed with these."""

from beaker.compat.crypto import hmac, hmac_sha1, md5, sha1

__all__ = ["hmac", "hmac_sha1", "md5", "sha1"]
