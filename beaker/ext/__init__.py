"""Managers of the backends that need a server or a package of their own."""
