"""The program inside the weights image: says what a model weighs, and fetches it."""

VERSION = "0.1.0"
"""Said to the sources. The image has the folder alone, and no package that could be asked for it."""
