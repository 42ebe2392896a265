"""The two-level router and its parts."""
