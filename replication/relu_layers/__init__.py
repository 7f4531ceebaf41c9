"""What is known of ReLU layers x ↦ relu(Wx + b): whether they are injective, and how stable their inverse is.

`spanning` puts the tests of injectivity in order: `opposite` rows, `refutation` by lean directions, `flats`, and
mixed-integer programs (`milp`); `patches` takes convolutions to them. `stability` bounds the constant of the inverse,
also by the cells of an `arrangement`. All take the rows as `layer` prepares them.

Source: paper D.
"""
