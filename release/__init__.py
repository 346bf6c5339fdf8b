"""Jobs of a release: sign what was measured, publish it, and look after it. Not in the wheel."""
