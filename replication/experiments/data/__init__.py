"""What the experiments run on: images, and random units."""
