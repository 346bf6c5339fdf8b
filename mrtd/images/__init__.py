"""Container images: whose are trusted (`mrtd.images.settings`)."""
