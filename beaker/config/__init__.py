"""Options: coercion from strings, the option classes, platform defaults."""
