"""The compiled loops over the linear pieces of s + A·relu(s) = c, in float64, in given room.

`elimination` solves a linear system, `pieces` solves a piece and judges its signs, `lemke` follows Lemke's path, and
`walking` puts these together, one row at a time. Where orders are small, `lanes` takes the first steps, for several
rows at once, in `vectors`.
"""
