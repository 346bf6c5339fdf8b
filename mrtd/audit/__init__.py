"""The coverage audit: what measures each input of a launch, and what follows where nothing does.

`mrtd.audit.rules` is the table of what is found; docs/audit-rules.md is made from it.
"""
