"""Importing: every code by table, formats by property."""
