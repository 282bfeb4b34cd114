"""What the command line can do without a cluster: render, fit, diagnose, check settings. One module for each."""
