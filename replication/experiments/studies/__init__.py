"""The experiments: configuration in, tidy table out."""
