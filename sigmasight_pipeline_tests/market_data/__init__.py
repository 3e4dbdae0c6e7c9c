"""Tests of market data sources and of what is done with their rows before they are stored."""
