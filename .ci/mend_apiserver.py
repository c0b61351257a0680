"""Lets a kube-apiserver of Kubernetes 1.20 that was built with Go 1.18 or newer take custom resources.

Such a build crashes at the first one: the reflection library it vendors calls `reflect.mapiterinit` the way
Go 1.17 had it (modern-go/reflect2 before 1.0.2). The one caller on the way of a custom resource is
`unstructuredSchemaCoercer.apply`, which drops unknown fields and tidies malformed metadata. It is replaced by
`return nil`, so this server keeps unknown fields, and the operator has to find them itself.
Usage: python3 mend_apiserver.py PATH. Doing it twice does no harm.
"""

from __future__ import annotations

import os
import pathlib
import struct
import sys

PACKAGE = b"k8s.io/kubernetes/vendor/k8s.io/apiextensions-apiserver/pkg/apiserver"
FUNCTION = PACKAGE + b".(*unstructuredSchemaCoercer).apply"
RETURN_NIL = bytes.fromhex("31c0 31db c3")  # xor eax, eax; xor ebx, ebx; ret
PCLNTAB_MAGIC = struct.pack("<I", 0xFFFFFFF0) + b"\0\0\x01\x08"  # Go 1.18 and 1.19, amd64


def entry_of(binary: bytes, name: bytes) -> int:
    """Address of a function, from the table that Go's runtime itself uses (runtime/symtab.go, pcHeader)."""
    base = binary.index(PCLNTAB_MAGIC)
    count, _, text, names, _, _, _, functions = struct.unpack_from("<8Q", binary, base + 8)
    for index in range(count):
        offset, where = struct.unpack_from("<II", binary, base + functions + 8 * index)
        (at,) = struct.unpack_from("<i", binary, base + functions + where + 4)
        start = base + names + at
        if binary.startswith(name + b"\0", start):
            return int(text + offset)
    raise SystemExit(f"{name.decode()}: no such function")


def file_offset(binary: bytes, address: int) -> int:
    """Where an address lies in an ELF file (elf(5), program headers)."""
    (table,) = struct.unpack_from("<Q", binary, 32)
    size, count = struct.unpack_from("<HH", binary, 54)
    for index in range(count):
        kind, _, offset, start, _, length = struct.unpack_from("<IIQQQQ", binary, table + index * size)
        if kind == 1 and start <= address < start + length:
            return int(offset + address - start)
    raise SystemExit(f"{address:#x} is in no segment")


def main(path: pathlib.Path) -> None:
    """Mend the file in place."""
    binary = path.read_bytes()
    at = file_offset(binary, entry_of(binary, FUNCTION))
    if binary[at : at + len(RETURN_NIL)] == RETURN_NIL:
        return
    mended = path.with_suffix(".mended")
    mended.write_bytes(binary[:at] + RETURN_NIL + binary[at + len(RETURN_NIL) :])
    mended.chmod(0o755)
    os.replace(mended, path)
    print(f"{path}: mended at {at:#x}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
