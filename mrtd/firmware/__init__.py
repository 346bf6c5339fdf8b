"""Firmware images: TDVF, MRTD and the events of RTMR0."""
