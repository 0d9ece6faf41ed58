"""Storage: bytes in, bytes out. One narrow contract (``api``), one module a backend."""
