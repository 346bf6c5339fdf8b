"""Container images: whose are trusted, and who signed them, asked of cosign and skopeo."""
