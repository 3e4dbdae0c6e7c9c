"""Commands killed at every commit of results, in turn, and run again."""
