"""The figures: a table in, a matplotlib Figure out, and nothing computed."""
