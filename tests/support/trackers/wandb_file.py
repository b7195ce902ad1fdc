"""Read the file of an offline run of W&B, with W&B's own message classes.

The file is a log of LevelDB's format: blocks of 32 KiB with records, each behind a header of checksum, length and type.
"""

import struct

from wandb.proto import wandb_internal_pb2 as messages

_BLOCK, _FILE_HEADER, _RECORD_HEADER = 32768, 7, 7
_FULL, _LAST = 1, 4


def read_messages(file):
    """The messages of a `.wandb` file, in order; what a killed process did not finish is left out."""
    data = file.read_bytes()
    assert data[:4] == b":W&B"
    position, parts = _FILE_HEADER, []
    while position + _RECORD_HEADER <= len(data):
        if _BLOCK - position % _BLOCK < _RECORD_HEADER:
            position += _BLOCK - position % _BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        if kind == 0:  # padding
            break
        position += _RECORD_HEADER
        parts.append(data[position : position + length])
        position += length
        if kind in (_FULL, _LAST):
            yield messages.Record.FromString(b"".join(parts))
            parts = []
