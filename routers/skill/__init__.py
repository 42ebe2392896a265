"""The skill router and its parts."""
