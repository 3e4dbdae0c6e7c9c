"""The `sigmasight` command: commands, progress, summaries. Commands start runs and read results."""
