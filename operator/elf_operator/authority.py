"""Who vouches for the pods of a job. Every job has an authority of its own.

All keys are derived from one master key (HKDF-SHA256, RFC 5869), so the operator needs no right to read a
Secret of anybody's job, and an operator that starts anew issues the same. Keys are Ed25519 (RFC 8032): any 32
bytes are one, and its signatures are deterministic. Pure: the same question gets the same bytes.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from elf_worker.contract import Peer, Role

MASTER_BYTES = 32
_BEGIN = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
_NEVER = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
"""RFC 5280, 4.1.2.5: no well-defined end. An identity ends with its pod's incarnation, an authority with its
job: nobody is left who would trust it."""


class BadMasterError(ValueError):
    """This is no master key."""


@dataclass(frozen=True)
class _Issuer:
    """The authority of one job, and what all its certificates have in common."""

    certificate: x509.Certificate
    key: Ed25519PrivateKey = field(repr=False)
    identifier: x509.AuthorityKeyIdentifier
    pem: bytes


@dataclass(frozen=True)
class Identity:
    """What a pod shows. All PEM."""

    certificate: bytes
    key: bytes = field(repr=False)
    authority: bytes = b""
    """The one certificate that its peers' are signed by."""


class Authority:
    """Issues identities for all jobs."""

    def __init__(self, master: bytes) -> None:
        """Raises BadMasterError unless there are `MASTER_BYTES` of it."""
        if len(master) != MASTER_BYTES:
            raise BadMasterError(f"the master key has {len(master)} bytes, {MASTER_BYTES} are expected")
        self._master = master
        self._of_job = functools.lru_cache(maxsize=256)(self._make)

    def fingerprint(self, job: str) -> str:
        """SHA-256 (hex) of the certificate that the pods of this job (its UID) trust."""
        certificate = self._of_job(job).certificate
        return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()

    def identity(self, peer: Peer) -> Identity:
        """The key and the certificates of one pod."""
        issuer = self._of_job(peer.job)
        key = Ed25519PrivateKey.from_private_bytes(self._derive("pod", peer.to_uri()))
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(peer.to_uri())])
        built = (
            _begun(key, f"{peer.role}-{peer.index}-{peer.incarnation}", issuer.certificate.subject)
            .add_extension(_NO_AUTHORITY, critical=True)
            .add_extension(_SIGNS_MESSAGES, critical=True)
            .add_extension(_USES[peer.role], critical=False)
            .add_extension(names, critical=False)
            .add_extension(issuer.identifier, critical=False)
        )
        return Identity(_pem(built.sign(issuer.key, None)), _key_pem(key), issuer.pem)

    def figures_token(self, job: str) -> str:
        """Opens the figures of one job's data centers."""
        return self._derive("figures", job).hex()

    def scrape_token(self) -> str:
        """Opens the figures of all jobs: for Prometheus."""
        return self._derive("scrape", "").hex()

    def _make(self, job: str) -> _Issuer:
        key = Ed25519PrivateKey.from_private_bytes(self._derive("authority", job))
        name, mine = f"elf job {job}", x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        built = (
            _begun(key, name, _named(name))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(mine, critical=False)
        )
        made = built.sign(key, None)
        theirs = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(mine)
        return _Issuer(made, key, theirs, _pem(made))

    def _derive(self, what: str, whose: str) -> bytes:
        info = f"northpole.dev/{what}/{whose}".encode()
        return HKDF(hashes.SHA256(), length=32, salt=None, info=info).derive(self._master)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _begun(key: Ed25519PrivateKey, name: str, issuer: x509.Name) -> x509.CertificateBuilder:
    public = key.public_key()
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(int.from_bytes(hashlib.sha256(raw).digest()[:16]) | 1)
        .not_valid_before(_BEGIN)
        .not_valid_after(_NEVER)
    )


def _key_usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


# Made once: a job of a thousand pods asks for a thousand certificates before its first pod.
_NO_AUTHORITY = x509.BasicConstraints(ca=False, path_length=None)
_SIGNS_MESSAGES = _key_usage(signs_certificates=False)
_USES = {
    Role.NPDC: x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
    Role.MDC: x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
    Role.HOME: x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),
}


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
