"""Jobs of this repository: launches, packages, examples. Not part of the library."""
