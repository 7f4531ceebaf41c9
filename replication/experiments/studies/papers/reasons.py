"""Reasons for tolerances that several claims share."""

INTERVAL = "a Wilson interval of 95 % for 500 cases reaches 0.8 % from 0 or 100 %"
RECOVERED = "the definition of a recovered image: a relative error of at most 10⁻⁶"
COUNT = "a number that the caption fixes"
