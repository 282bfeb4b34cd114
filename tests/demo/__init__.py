"""The main job, end to end, for everybody to see: `make demo`."""
