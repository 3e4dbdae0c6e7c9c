"""Tests of the `sigmasight` command, run as its users run it: in a process of its own."""
