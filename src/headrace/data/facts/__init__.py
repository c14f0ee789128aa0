"""The demo's corpus: real facts out of installed packages, as prose and as instructions."""
