"""Helpers of Beaker up to 1.14 that programs import, each thin over what is here under another name.

They are offered again where programs look for them (``beaker.util``, ``beaker.converters``, ``beaker.crypto``). What
belongs to a cache or a session is there: :mod:`beaker.caching.class_map`, :mod:`beaker.caching.open_caches`,
:mod:`beaker.session.older_names`. The page "Moving from Beaker" lists every name with what differs. Nothing reads a
pickle that is not verified, or signs with SHA-1, whatever its name promised once.
"""
