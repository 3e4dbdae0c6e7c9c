"""The demo: a simulated market with known parameters and the three portfolios valued in it."""
