"""Reference values: the document that a release signs, and its statement.

What a verifier compares a TD with (RFC 9334, "Reference Values"). docs/reference-values.md
explains the format; the modules of this package say where things are.
"""

from mrtd.reference.digests import (
    launch_bytes,
    launch_digest,
    mrtd_digest,
    revocations_bytes,
    revocations_digest,
)
from mrtd.reference.document import (
    Artifact,
    BitRule,
    Components,
    Confirmation,
    CoverageRow,
    Expectations,
    Input,
    Launch,
    LaunchRegisters,
    Lifecycle,
    ReferenceValues,
    RegisterRule,
    Release,
    ReleaseRef,
    Revocation,
    Tool,
)
from mrtd.reference.result import (
    EvidenceFile,
    Program,
    RegisterResult,
    ResultDocument,
    confirmation_of,
    encode_result,
    read_result,
    result_digest,
)
from mrtd.reference.statement import (
    PAYLOAD_TYPE,
    PREDICATE_TYPE,
    STATEMENT_TYPE,
    encode_reference_values,
    encode_statement,
    read_reference_values,
    read_statement,
)
from mrtd.reference.subjects import SUBJECT_LIMIT, SUBJECT_NAMES, Subject, subjects

__all__ = [
    "PAYLOAD_TYPE",
    "PREDICATE_TYPE",
    "STATEMENT_TYPE",
    "SUBJECT_LIMIT",
    "SUBJECT_NAMES",
    "Artifact",
    "BitRule",
    "Components",
    "Confirmation",
    "CoverageRow",
    "EvidenceFile",
    "Expectations",
    "Input",
    "Launch",
    "LaunchRegisters",
    "Lifecycle",
    "Program",
    "ReferenceValues",
    "RegisterResult",
    "RegisterRule",
    "Release",
    "ReleaseRef",
    "ResultDocument",
    "Revocation",
    "Subject",
    "Tool",
    "confirmation_of",
    "encode_reference_values",
    "encode_result",
    "encode_statement",
    "launch_bytes",
    "launch_digest",
    "mrtd_digest",
    "read_reference_values",
    "read_result",
    "read_statement",
    "result_digest",
    "revocations_bytes",
    "revocations_digest",
    "subjects",
]
