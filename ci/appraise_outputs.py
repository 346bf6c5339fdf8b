"""The files of an accepted answer: what a signing job may use."""

from __future__ import annotations

import msgspec

from ci.appraise import Hosted
from ci.crosscheck import crosscheck
from ci.crosscheck_appraisal import Appraised, appraised
from ci.crosscheck_evidence import read_evidence
from ci.crosscheck_results import Facts, results
from ci.ita_check import RoundTrip, second_opinion
from mrtd.document import encode, to_document
from mrtd.evidence.bundle import decode_bundle
from mrtd.evidence.quote import Quote


def outputs_of(
    answer: bytes, hosted: Hosted, trip: RoundTrip | None, *, shape: str
) -> dict[str, bytes]:
    """Name and content: spec, measurement document, answer, and results of what was checked.

    Args:
        answer: that was accepted.
        hosted: what it was compared with.
        trip: Intel Trust Authority's; None if it was not asked.
        shape: name of the launch.
    """
    bundle = decode_bundle(answer, origin="answer")
    # what the runner says of its inputs is not repeated as ours
    files = {name: data for name, data in bundle.files.items() if name != "measurement.json"}
    evidence = read_evidence(msgspec.structs.replace(bundle, files=files))
    said = _said(evidence.quote, hosted, trip)
    check = crosscheck(
        hosted.derivation, evidence, origin="derived by the hosted job", appraised=said.lines
    )
    facts = Facts(shape, hosted.now, {"qemu": hosted.derivation.spec.vmm.version})
    documents = results(check, facts, appraised=said)
    kept = {kind: documents[kind] for kind in ("launched-tdx", "ita", "dcap")}
    return {
        "launch.toml": hosted.spec,
        "measurement.json": encode(to_document(hosted.derivation)),
        "answer.zip": answer,
        **{f"{kind}.json": data for kind, data in kept.items()},
    }


def _said(quote: Quote | None, hosted: Hosted, trip: RoundTrip | None) -> Appraised:
    opinion = None
    if quote is not None and hosted.collateral is not None:
        opinion = second_opinion(
            quote,
            hosted.collateral,
            now=hosted.now,
            accepted=frozenset(hosted.policy.tcb.statuses),
            root_ca=hosted.root_ca,
        )
    if trip is None:
        return appraised("no API key is set", opinion)
    return appraised(lambda: trip, opinion)
