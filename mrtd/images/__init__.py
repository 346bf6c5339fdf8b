"""Container images: whose are trusted, who signed them, and what follows for a workload."""
