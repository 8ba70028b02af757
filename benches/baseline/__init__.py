"""Two builds of the package, measured in turns."""
