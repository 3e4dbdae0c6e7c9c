"""The engines: pure functions from frames to frames, one formula in one place.

What belongs here: everything that turns prices, actions and positions into figures, on Polars frames and
NumPy arrays. What does not: Dagster, the database, the clock, the environment and settings; a parameter is a
keyword argument.

Conventions of every module:

- A figure for session D uses only rows dated D or earlier; rows of later sessions in an input change nothing.
- The result for a session is the same, bit for bit, whether it is computed alone or within a range.
- Prices are as traded; splits and dividends are applied where two sessions are compared, by ``actions``.
- Quantities are signed (short < 0). Money is Decimal and rounded once; statistics are double precision.
- What cannot be computed is NULL with a reason beside it, never 0.
"""
