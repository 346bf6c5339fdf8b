"""A boot chain: images that are loaded, measured and started, one after the other.

Sources: edk2 SecurityPkg DxeTpm2MeasureBootLib and OvmfPkg TdTcg2Dxe (the partition table is
measured before the first image from a disk, images when they are loaded); edk2 SecurityStubDxe
(an image is verified before it is measured).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from mrtd.boot.bzimage import KernelFacts, read_kernel_facts, read_setup_header
from mrtd.boot.efi_stub import stub_events, tagged_data
from mrtd.boot.pe import authenticode
from mrtd.boot.recorder import Content, Recorder, utf16
from mrtd.eventlog import EventType, InputName, Origin
from mrtd.registers import Sha384, Target, Unpinned

if TYPE_CHECKING:
    from mrtd.boot.secure_boot import SecureBootPolicy

_IMAGE_PCR: Final = 4
_PARTITION_PCR: Final = 5
_POLICY_PCR: Final = 7
_MAX_IMAGE: Final = 1 << 30
_MAX_DEPTH: Final = 8


class FileEntry(Protocol):
    """A file or folder of a file system."""

    @property
    def name(self) -> str:
        """Its name, without its folder."""

    @property
    def directory(self) -> bool:
        """Whether it is a folder."""


class Files(Protocol):
    r"""A file system that firmware reads; paths have ``/`` or ``\`` and ignore case."""

    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""

    def listdir(self, path: str = "") -> tuple[FileEntry, ...]:
        """The entries of a folder."""

    def read(self, path: str, limit: int) -> bytes:
        """The bytes of a file of at most ``limit``."""


class Image(msgspec.Struct, frozen=True):
    """An EFI application.

    Attributes:
        data: the whole file.
        path: where it is, in its file system.
        files: that file system; None if it has none.
    """

    data: memoryview
    path: str
    files: Files | None


class MachineFacts(msgspec.Struct, frozen=True):
    """What programs of a chain find out about the machine.

    Attributes:
        smbios_type_1: the SMBIOS structure of type 1 as systemd measures it.
        consoles: the ``console=`` arguments that systemd-stub finds, or why they are not known.
        stored: names of the variables in the variable store.
        random_source: what the firmware has random numbers from; empty if surely nothing.
    """

    smbios_type_1: bytes | Unpinned
    consoles: tuple[str, ...] | Unpinned
    stored: frozenset[str]
    random_source: str


class Chain:
    """A boot in progress: what was measured, and what the next program is given.

    Attributes:
        target: who takes the measurements.
        recorder: the events so far.
        machine: facts of the machine.
        entry: the boot loader's entry that is taken; None for its default, and once one took it.
        partition: number of the partition that the ESP is; None if it is not known.
        extended: whether the disk has an XBOOTLDR partition, which may have entries, too.
        kernel: what the kernel that ended the chain says of itself; None so far.
        cmdline: its command line; None if it is not known.
        ended: whether a kernel was started, which leaves the firmware.
        vendor: certificate or database that shim was built with; empty if none has run.
        smbios_measured: whether a program of systemd has measured SMBIOS.
    """

    def __init__(
        self,
        target: Target,
        machine: MachineFacts,
        *,
        policy: SecureBootPolicy | None = None,
        partitions: tuple[bytes, str] | None = None,
        entry: str | None = None,
        partition: int | None = None,
        extended: bool = False,
    ) -> None:
        self.target = target
        self.recorder = Recorder(target)
        self.machine = machine
        self.entry = entry
        self.partition = partition
        self.extended = extended
        self.kernel: KernelFacts | None = None
        self.cmdline: str | None = None
        self.ended = False
        self.smbios_measured = False
        self.vendor = b""
        self._policy = policy
        self._partitions = partitions
        self._authorities: set[bytes] = set()
        self._depth = 0

    @property
    def secure_boot(self) -> bool:
        """Whether Secure Boot is on."""
        return self._policy is not None

    @property
    def policy(self) -> SecureBootPolicy | None:
        """What Secure Boot allows; None if it is off."""
        return self._policy

    def load_image(
        self, data: memoryview, path: str, source: InputName, *, required: bool = True
    ) -> bool:
        """What the firmware measures when it loads an image, and whether it loads it.

        Args:
            data: the whole file.
            path: where it is, for messages and origins.
            source: which input it is.
            required: whether an image that Secure Boot refuses is an error.

        Raises:
            MalformedKernel: not a PE image.
            SpecError: Secure Boot refuses a required image.
        """
        if self._policy is not None:
            allowed = self._policy.authority(data, path, required=required)
            if allowed is None:
                return False
            self.authority(allowed.name, allowed.variable, allowed.label, allowed.origin)
        if self._partitions is not None:
            body, where = self._partitions
            self._partitions = None
            self.recorder.measure(
                _PARTITION_PCR, EventType.EV_EFI_GPT_EVENT, body, "GPT of the boot disk",
                Origin(InputName.PARTITIONS, where), data=body,
            )  # fmt: skip
        self.measure_image(data, path, source)
        return True

    def measure_image(self, data: bytes | memoryview, path: str, source: InputName) -> None:
        """The event of an image that is loaded: its Authenticode digest."""
        self.recorder.measure(
            _IMAGE_PCR, EventType.EV_EFI_BOOT_SERVICES_APPLICATION,
            authenticode(memoryview(data), origin=path), f"image {path}", Origin(source, path),
        )  # fmt: skip

    def authority(self, name: str, variable: Content, label: str, origin: Origin) -> None:
        """The event of the entry that verified an image; each entry is measured once."""
        if isinstance(variable, (bytes, bytearray, memoryview)):
            if bytes(variable) in self._authorities:
                return
            self._authorities.add(bytes(variable))
        data = b"" if isinstance(variable, (Unpinned, Sha384)) else bytes(variable)
        self.recorder.measure(
            _POLICY_PCR, EventType.EV_EFI_VARIABLE_AUTHORITY, variable, f"{name}: {label}", origin,
            data=data,
        )  # fmt: skip

    def tagged(
        self,
        pcr: int,
        tag: int,
        content: Content,
        *,
        text: str,
        label: str,
        origin: Origin,
        through_cc: bool | None,
    ) -> None:
        """An EV_EVENT_TAG event of systemd's boot programs.

        Args:
            pcr: where it goes.
            tag: its identifier.
            content: what is hashed.
            text: what the event's body says, in UTF-16.
            label: what was measured, for a person.
            origin: which input it came from.
            through_cc: whether the program makes such events in a TD; None if that is not known.
        """
        if self.target is Target.CC and through_cc is False:
            return
        if self.target is Target.CC and through_cc is None:
            content = Unpinned(f"whether this version measures {label} in a TD is not known")
        body = tagged_data(tag, utf16(text))
        self.recorder.measure(pcr, EventType.EV_EVENT_TAG, content, label, origin, data=body)

    def unknown(self, pcrs: tuple[int, ...], reason: str, label: str) -> None:
        """Say that what follows cannot be derived, in each register that it may change."""
        self.recorder.unknown(pcrs, reason, label, Origin(InputName.BOOT_LOADER, label))

    def start(self, image: Image, options: str = "") -> None:
        """Start an image that was loaded, whatever it is.

        Args:
            image: the application.
            options: its load options; empty if none.

        Raises:
            InputError: it, or something that it reads, is malformed or refused.
        """
        from mrtd.boot.applications import start_application  # noqa: PLC0415 - it starts others

        self._depth += 1
        if self._depth > _MAX_DEPTH:
            self.unknown((1, 4, 5, 7, 8, 9, 11, 12, 13, 14), "the boot loaders start each other "
                         f"more than {_MAX_DEPTH} times", image.path)  # fmt: skip
            return
        start_application(self, image, options)

    def run_file(self, files: Files, path: str, options: str = "") -> None:
        """Load and start an application of a file system: a kernel, or what loads one."""
        image = Image(memoryview(files.read(path, _MAX_IMAGE)), path, files)
        linux = read_setup_header(image.data, origin=path).protocol
        source = InputName.KERNEL if linux else InputName.BOOT_LOADER
        self.load_image(image.data, path, source)
        self.start(image, options)

    def start_kernel(
        self,
        data: bytes | memoryview,
        options: str | Unpinned,
        initrd: Sha384 | Unpinned | None,
        *,
        where: str,
        cmdline_where: str,
        initrd_where: str,
        terminated: bool = True,
    ) -> None:
        """What a Linux EFI stub measures.

        Args:
            data: the kernel.
            options: its load options; empty if none.
            initrd: digest of its initrd; None if there is none.
            where: what the kernel is called, for messages.
            cmdline_where: where the load options are from.
            initrd_where: where the initrd is from.
            terminated: whether the load options end with a NUL, as all but GRUB's do.
        """
        self.kernel = read_kernel_facts(memoryview(data), origin=where)
        self.ended = True
        self.cmdline = options if isinstance(options, str) else None
        if self.target is Target.CC and not self.kernel.cc_measurement:
            return
        told = options if isinstance(options, Unpinned) else utf16(options) if options else b""
        if isinstance(told, bytes) and not terminated:
            told = told[:-2]
        self.recorder.events += stub_events(
            told, initrd, target=self.target, cmdline_where=cmdline_where,
            initrd_where=initrd_where,
        )  # fmt: skip
