"""Event loops: how what blocks leaves them, and how coroutines wait for what other threads hold."""
