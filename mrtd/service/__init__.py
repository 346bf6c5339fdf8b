"""The verifier over HTTP: a sidecar for control planes in other languages, and a reference one.

Extra ``mrtd[service]``. What it answers is in ``docs/service.md`` and at ``/openapi.json``.
"""
