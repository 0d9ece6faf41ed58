"""Keys, signing, sealing and password-based derivation."""
