"""Market data: where it comes from, and what becomes of a row before it may be stored.

What belongs here: the source protocol and the sources, screening of prices, carrying yields forward, coverage. What
does not: reading or writing tables (``storage``) and formulas on stored prices (``calculations``).
"""
