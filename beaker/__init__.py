"""Beaker: WSGI sessions and caching for Google App Engine, serverless and laptops."""

__version__ = "2.0.0.dev0"
