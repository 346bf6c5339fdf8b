"""Container images: who signed them, asked of the programs that know (cosign, skopeo)."""
