"""Workload status, worked out: signatures looked for, answers kept (`mrtd.images.status`)."""
