"""Make a program of a newer distribution runnable here, from its unpacked packages.

The program is started by its own dynamic loader with its own libraries, so that it does not matter
which libc the system has; nothing needs to be under ``/``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

_WRAPPER: Final = """\
#!/bin/sh
# Written by ci/bundle.py: runs {program} from the packages in this folder, with their libraries.
root=$(dirname -- "$(readlink -f -- "$0")")
lib=$root/usr/lib/x86_64-linux-gnu
own=$root/lib/x86_64-linux-gnu # before Debian 13, libc is here
loader=$lib/ld-linux-x86-64.so.2
[ -e "$loader" ] || loader=$own/ld-linux-x86-64.so.2
export QEMU_MODULE_DIR="$lib/qemu"
# exec: who kills the wrapper kills the program
exec "$loader" --library-path "$lib:$own:$root/usr/lib:$lib/pulseaudio" \\
    --argv0 {program} "$root/usr/bin/{program}"{options} "$@"
"""
_QEMU_DATA: Final = (
    ' \\\n    -L "$root/usr/share/qemu" -L "$root/usr/share/seabios" -L "$root/usr/lib/ipxe/qemu"'
)


def write_wrapper(root: Path, program: str) -> Path:
    """Write the script ``program`` into ``root``, which holds the unpacked packages; its path."""
    wrapper = root / program
    options = _QEMU_DATA if program.startswith("qemu-") else ""
    wrapper.write_text(_WRAPPER.format(program=program, options=options), encoding="utf-8")
    wrapper.chmod(0o755)
    return wrapper
