"""What a launch starts: the image, the boot options, and the chain from there on."""
