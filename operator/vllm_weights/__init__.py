"""The program inside the weights image: says what a model weighs, and fetches it."""
