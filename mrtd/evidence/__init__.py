"""Evidence of a launch: quotes, their verification, and bundles of evidence."""
