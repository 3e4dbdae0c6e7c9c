"""Tests of the simulated market and the demo portfolios."""
