"""Why evidence is not what is expected: a search over known profiles and plausible inputs."""
