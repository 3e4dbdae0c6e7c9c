"""The demo: a simulated market with known parameters and the portfolios valued in it."""
