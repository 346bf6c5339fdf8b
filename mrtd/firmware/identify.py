"""What a firmware image is: its layout, its variables, its signals and its profile."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from mrtd.errors import MalformedFirmware
from mrtd.firmware.profiles import FirmwareProfile, Step, profile_named
from mrtd.firmware.tdvf import SectionType, Tdvf, read_tdvf
from mrtd.firmware.variables import Variable, read_variables

if TYPE_CHECKING:
    from mrtd.firmware.signals import Signals
    from mrtd.firmware.volumes import Contents


class Firmware(msgspec.Struct, frozen=True):
    """An identified firmware image.

    Attributes:
        image: its bytes.
        tdvf: its TDX metadata.
        variables: those of its CFV; empty if it has none.
        profile: what it measures.
        guessed: whether the profile was guessed from the image.
        secure_boot: whether it is built with Secure Boot.
        signals: what the image shows of its build; None if it was not unpacked.
        contradictions: what in the image speaks against a profile that was named.
        volumes: PEI and DXE volume, unpacked, where there are such.
    """

    image: memoryview
    tdvf: Tdvf
    variables: tuple[Variable, ...]
    profile: FirmwareProfile
    guessed: bool
    secure_boot: bool
    signals: Signals | None
    contradictions: tuple[str, ...]
    volumes: tuple[memoryview, memoryview] | None


class Examined(msgspec.Struct, frozen=True):
    """What unpacking an image shows.

    Attributes:
        signals: what it shows of its build.
        volumes: PEI and DXE volume, where there are such.
    """

    signals: Signals
    volumes: tuple[memoryview, memoryview] | None


def examine(image: memoryview, *, origin: str) -> Examined:
    """Unpack an image and look at it: a tenth of a second. Raises `MalformedFirmware`."""
    # an image whose profile is named need not be unpacked, nor what does it be imported
    from mrtd.firmware.signals import read_signals  # noqa: PLC0415
    from mrtd.firmware.volumes import unpack_firmware  # noqa: PLC0415

    contents = unpack_firmware(image, origin=origin)
    return Examined(read_signals(contents), _pei_and_dxe(contents))


def needs_examination(
    profile: str | None,
    secure_boot: bool | None,  # noqa: FBT001 - as in the spec
    *,
    origin: str,
) -> bool:
    """Whether something has to be read from the volumes of an image.

    That is its profile, whether it is built with Secure Boot, or the SMBIOS strings it measures.

    Raises:
        UnknownProfile: no profile has that name.
    """
    if profile is None or secure_boot is None:
        return True
    return any(row.step is Step.SMBIOS for row in profile_named(profile, origin=origin).cc)


def identify(
    image: memoryview,
    *,
    origin: str,
    profile: str | None = None,
    secure_boot: bool | None = None,
    examined: Callable[[], Examined] | None = None,
) -> Firmware:
    """Identify a firmware image.

    Args:
        image: the whole image.
        origin: its name, for messages.
        profile: name of its profile; guessed if None.
        secure_boot: whether it is built with Secure Boot; read from the image if None.
        examined: gives what `examine` does; None where profile and secure_boot are known and
            nothing has to be read from the image's volumes.

    Raises:
        MalformedFirmware: the image breaks a format.
        UnknownProfile: the profile is not known, or has to be named.
    """
    tdvf = read_tdvf(image, origin=origin)
    variables = variables_of(image, tdvf)
    named = None if profile is None else profile_named(profile, origin=origin)
    if examined is None:
        if (
            named is None
            or secure_boot is None
            or needs_examination(profile, secure_boot, origin=origin)
        ):
            examined = partial(examine, image, origin=origin)
        else:
            return Firmware(
                image, tdvf, variables, named, guessed=False, secure_boot=secure_boot,
                signals=None, contradictions=(), volumes=None,
            )  # fmt: skip
    from mrtd.firmware.signals import contradictions, guess_profile  # noqa: PLC0415

    found = examined()
    chosen = guess_profile(found.signals, origin=origin) if named is None else named
    return Firmware(
        image,
        tdvf,
        variables,
        chosen,
        guessed=named is None,
        secure_boot=found.signals.secure_boot if secure_boot is None else secure_boot,
        signals=found.signals,
        contradictions=contradictions(chosen, found.signals),
        volumes=found.volumes,
    )


def variables_of(image: memoryview, tdvf: Tdvf) -> tuple[Variable, ...]:
    """The variables in an image's CFV; none if it has no CFV. Raises `MalformedFirmware`."""
    found = tdvf.of_type(SectionType.CFV)
    if not found:
        return ()
    if len(found) > 1:
        raise MalformedFirmware("more than one CFV", origin=tdvf.origin, field="TDVF sections")
    section = found[0]
    return read_variables(section.content(image), origin=tdvf.origin, base=section.data_offset)


def _pei_and_dxe(contents: Contents) -> tuple[memoryview, memoryview] | None:
    """The volumes that hold the PEI core and the DXE core, which OVMF unpacks into memory."""
    by_name = {module.name: contents.volumes[module.volume] for module in contents.modules}
    if "PeiCore" in by_name and "DxeCore" in by_name:
        return by_name["PeiCore"], by_name["DxeCore"]
    return None
