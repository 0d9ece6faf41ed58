"""Caches: creations in flight and what voids them."""
