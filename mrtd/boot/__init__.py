"""Kernels and what measures them: RTMR1 and RTMR2."""
