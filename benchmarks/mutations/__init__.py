"""Mutation tests: whether the tests notice when the code that must not be wrong is changed."""
