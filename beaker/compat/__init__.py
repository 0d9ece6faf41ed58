"""Names of Beaker up to 1.14 that programs import, each thin over what is here under another name.

They live in this folder and are offered again where programs look for them (``beaker.util``, ``beaker.cache``,
``beaker.ext.redisnm``, ...). The page "Moving from Beaker" lists each with what differs. Nothing in here reads a pickle
that is not verified, or signs with SHA-1, whatever its name promised once.
"""
