"""Properties of the pipeline as a whole, tested on generated books."""
