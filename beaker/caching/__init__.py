"""One value per key, created once: entries, dogpile, namespaces, cached functions."""
