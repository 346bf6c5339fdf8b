"""The error tree: one class per thing a caller would do differently.

::

    MrtdError
    |-- InputError            an input is wrong: fix the file, the spec or the option     exit 2
    |   |-- SpecError             the launch spec contradicts itself or cannot be read
    |   |-- MalformedFirmware     a firmware image breaks its own format
    |   |-- UnknownProfile        the firmware's event profile has to be chosen by name
    |   |-- MalformedKernel       a kernel or PE image breaks its own format
    |   |-- MalformedDisk         a disk image, its partitions or a file system break their format
    |   |-- MalformedAcpi         an ACPI blob breaks its own format
    |   |-- MalformedEventLog     an event log breaks its own format
    |   |-- MalformedDocument     a measurement document (or expected value) cannot be read
    |   |-- MalformedQuote        a quote breaks its own format
    |   |-- MalformedCollateral   collateral for a quote cannot be read
    |   |-- MalformedStatement    a statement or reference-values document breaks its format
    |   |-- MalformedBundle       an evidence bundle, or what a collector sent, cannot be used
    |   |-- PolicyError           an appraisal policy cannot be read, or contradicts itself
    |   |-- ImagesError           images.toml, or a key that it names, cannot be used
    |   |-- TrustRootError        the root of trust for signatures cannot be used
    |   |-- TokenError            an OIDC token cannot be had or used to sign: get another one
    |   |   `-- NoOidcPermission      the workflow has to be changed: it may not ask for a token
    |   `-- ToolFailed            an external program refused its input, hung or printed garbage
    |-- VerificationError     the inputs are fine, the answer is no                       exit 1
    |   |-- MeasurementMismatch   derived and expected measurements differ
    |   |-- QuoteInvalid          no genuine platform signed this quote
    |   |-- TdUnprotected         the quote is genuine, and says that the host can reach into the TD
    |   |-- CollateralInvalid     the collateral is not Intel's, or not of this platform
    |   |-- CollateralExpired     the collateral does not hold now: fetch it again
    |   |-- PlatformRevoked       Intel has revoked the platform or its TCB
    |   |-- TcbRejected           the platform is genuine, and the policy does not take its state
    |   `-- ReleaseRefused        what was measured, or what it is to follow, is not to be signed
    |-- TransportError        a service could not be reached or gave no usable answer     exit 3
    |   `-- ServiceRefused        a service understood and refused: asking again changes nothing
    `-- ToolMissing           an external program is not installed                        exit 3

Foreign exceptions never leave a public function of this package.
"""

from typing import ClassVar


class MrtdError(Exception):
    """Base of every error that this package raises.

    Attributes:
        message: what went wrong, where, in one sentence.
        hint: what to do next, or None.
        exit_code: what a command-line tool exits with (DESIGN 6).
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message} ({self.hint})"


class InputError(MrtdError):
    """An input is malformed, unsupported or contradicts another one.

    Attributes:
        origin: the file, option or blob that is wrong.
        offset: byte offset in it, where there is one.
        field: the field of the format or the key of the spec, where there is one.
    """

    exit_code: ClassVar[int] = 2

    def __init__(
        self,
        message: str,
        *,
        origin: str,
        offset: int | None = None,
        field: str | None = None,
        hint: str | None = None,
    ) -> None:
        where = origin if offset is None else f"{origin}+{offset:#x}"
        super().__init__(
            f"{where}: {message}" if field is None else f"{where}: {field}: {message}", hint=hint
        )
        self.origin = origin
        self.offset = offset
        self.field = field


class SpecError(InputError):
    """The launch spec cannot be read, or contradicts itself or its files."""


class MalformedFirmware(InputError):
    """A firmware image does not follow the TDVF or the UEFI PI format."""


class UnknownProfile(InputError):
    """The firmware fits no known event profile, or several: name one."""


class MalformedKernel(InputError):
    """A kernel, or the PE image that it is, does not follow its format."""


class MalformedDisk(InputError):
    """A disk image, partition table or file system breaks its format, or is of a refused kind."""


class MalformedAcpi(InputError):
    """An ACPI blob does not follow its format."""


class MalformedEventLog(InputError):
    """An event log does not follow its format."""


class MalformedDocument(InputError):
    """A measurement document, or a value to compare with, cannot be read."""


class MalformedQuote(InputError):
    """A quote does not follow its format, or is of a kind that has no TD."""


class MalformedCollateral(InputError):
    """Collateral for the verification of a quote cannot be read."""


class MalformedStatement(InputError):
    """A statement, or a reference-values or result document, breaks its format."""


class MalformedBundle(InputError):
    """An evidence bundle, or what a collector sent, breaks its format or its own manifest."""


class PolicyError(InputError):
    """An appraisal policy cannot be read, contradicts itself, or leaves out what it must say."""


class ImagesError(InputError):
    """``images.toml``, or a key that it names, cannot be read, or contradicts itself."""


class TrustRootError(InputError):
    """The root of trust for signatures cannot be read, or is none that is known."""


class TokenError(InputError):
    """An OIDC token cannot be had, read or used to sign: get another one."""


class NoOidcPermission(TokenError):
    """The job may not ask for an OIDC token: its workflow has to say ``id-token: write``."""


class ToolFailed(InputError):
    """An external program refused its arguments, hung, or answered with garbage."""


class VerificationError(MrtdError):
    """The inputs could be read and the answer is no."""

    exit_code: ClassVar[int] = 1


class MeasurementMismatch(VerificationError):
    """Derived and expected measurements differ."""


class QuoteInvalid(VerificationError):
    """No genuine platform signed this quote, or nobody can tell: evidence of nothing."""


class TdUnprotected(VerificationError):
    """The quote is genuine, and says that the host (or another TD) can reach into the TD."""


class CollateralInvalid(VerificationError):
    """The collateral is not signed by Intel, or is that of another platform."""


class CollateralExpired(VerificationError):
    """The collateral (or a certificate) does not hold at the given time: fetch it again."""


class PlatformRevoked(VerificationError):
    """Intel has revoked the platform's certificate or its TCB: no policy can accept it."""


class TcbRejected(VerificationError):
    """The platform is genuine, and the policy does not accept its state.

    Attributes:
        failed: names of the checks that failed.
    """

    def __init__(self, message: str, *, failed: tuple[str, ...], hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.failed = failed


class ReleaseRefused(VerificationError):
    """A release is not to be signed or published as it is; every reason is named at once.

    Attributes:
        refusals: stable code and text of each reason.
    """

    def __init__(
        self, message: str, *, refusals: tuple[tuple[str, str], ...], hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.refusals = refusals


class TransportError(MrtdError):
    """A service could not be reached, or gave no usable answer.

    Attributes:
        retry_after: seconds after which asking again makes sense; None if that is not known.
    """

    def __init__(
        self, message: str, *, hint: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class ServiceRefused(TransportError):
    """A service understood what it was asked and refused: asking again changes nothing.

    Attributes:
        status: its HTTP status.
    """

    def __init__(self, message: str, *, status: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class ToolMissing(MrtdError):
    """An external program is not installed; the hint says how to get or avoid it."""
