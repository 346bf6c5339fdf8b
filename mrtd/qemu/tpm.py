"""A TPM back end that does nothing, for table dumps of machines with a TPM.

QEMU's emulator back end talks to swtpm over two sockets: TPM control commands on the one it is
given, TPM commands on one it hands over. A stopped machine probes the version and resets the device
once; no TPM is needed for the ``TPM2`` table and the ``etc/tpm/log`` area to be there.
Source: QEMU backends/tpm/tpm_emulator.c, tpm_ioctl.h (the control commands), docs/specs/tpm.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import Final

_SET_DATAFD: Final = 16
# Bytes that follow the command's number, where there are any.
_REQUEST: Final = {2: 4, 5: 4, 11: 4, 17: 4}  # init, locality, reset established, buffer size
_OK: Final = bytes(4)
_CAPABILITIES: Final = 0x34EF  # init .. reset established, stop, data descriptor, buffer size
_ANSWER: Final = {
    1: struct.pack(">Q", _CAPABILITIES),
    4: bytes(8),  # established flag: not set
    17: struct.pack(">IIII", 0, 4096, 4096, 4096),
}
# A TPM 2.0 answer without sessions: 10 bytes, TPM_RC_INITIALIZE.
_NOT_READY: Final = struct.pack(">HII", 0x8001, 10, 0x100)


class InertTpm:
    """Answers QEMU's TPM emulator back end until either side closes.

    Attributes:
        theirs: the socket that QEMU inherits; close it once QEMU runs.
    """

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair()
        self._data: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._control, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """Close everything and wait for the threads."""
        self.theirs.close()
        for stream in (self._ours, *self._data):
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for stream in (self._ours, *self._data):
            stream.close()

    def _control(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                header, descriptors, _, _ = socket.recv_fds(self._ours, 4, 1)
                for descriptor in descriptors:
                    self._serve(socket.socket(fileno=descriptor))
                while header and len(header) < 4:
                    header += self._ours.recv(4 - len(header)) or b"\0" * 4
                if not header:
                    return
                command = int.from_bytes(header[:4], "big")
                left = _REQUEST.get(command, 0)
                while left and (chunk := self._ours.recv(left)):
                    left -= len(chunk)
                self._ours.sendall(_ANSWER.get(command, _OK))

    def _serve(self, stream: socket.socket) -> None:
        self._data.append(stream)
        thread = threading.Thread(target=_answer, args=(stream,), daemon=True)
        self._threads.append(thread)
        thread.start()


def _answer(stream: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while stream.recv(1 << 16):
            stream.sendall(_NOT_READY)
