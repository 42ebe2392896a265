"""Labelled prompts: what routers are fitted on and judged with."""
