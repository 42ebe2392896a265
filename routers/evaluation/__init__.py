"""How good decisions are on labelled prompts, and what of it to show."""
