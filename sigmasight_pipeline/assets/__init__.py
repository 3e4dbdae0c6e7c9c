"""The assets: what depends on what. No formula, no SQL."""
