"""Benchmarks: ``python -m benchmarks.<name> [--json]``. Each prints a table; --json adds one object as last line."""
