"""What is said of identities: equal questions get equal answers, and no two pods have one key."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID
from hypothesis import given, settings
from hypothesis import strategies as st

from elf_operator.authority import MASTER_BYTES, Authority, BadMasterError
from elf_worker.contract import Peer, Role

MASTERS = st.binary(min_size=MASTER_BYTES, max_size=MASTER_BYTES)
IDS = st.integers(0, 10**6)
PEERS = st.builds(Peer, st.uuids().map(str), st.sampled_from(Role), IDS, IDS)


@given(MASTERS, PEERS)
@settings(max_examples=30)
def test_an_operator_that_starts_anew_issues_the_same(master: bytes, peer: Peer) -> None:
    assert Authority(master).identity(peer) == Authority(master).identity(peer)
    assert Authority(master).fingerprint(peer.job) == Authority(master).fingerprint(peer.job)


@given(MASTERS, PEERS, PEERS)
@settings(max_examples=30)
def test_no_two_pods_have_one_key(master: bytes, one: Peer, other: Peer) -> None:
    authority = Authority(master)
    assert (authority.identity(one).key == authority.identity(other).key) == (one == other)


@given(st.lists(MASTERS, min_size=2, max_size=2, unique=True), PEERS)
@settings(max_examples=20)
def test_another_master_issues_others(masters: list[bytes], peer: Peer) -> None:
    first, second = map(Authority, masters)
    assert first.identity(peer).key != second.identity(peer).key
    assert first.fingerprint(peer.job) != second.fingerprint(peer.job)
    assert first.figures_token(peer.job) != second.figures_token(peer.job)
    assert first.scrape_token() != second.scrape_token()


def test_jobs_have_different_authorities_and_tokens() -> None:
    authority = Authority(bytes(MASTER_BYTES))
    assert authority.fingerprint("a") != authority.fingerprint("b")
    assert len({authority.figures_token("a"), authority.figures_token("b"), authority.scrape_token()}) == 3


@pytest.mark.parametrize("role", Role)
def test_a_certificate_says_who_and_what_for(role: Role) -> None:
    peer = Peer("uid", role, 3, 1)
    made = Authority(bytes(MASTER_BYTES)).identity(peer)
    certificate = x509.load_pem_x509_certificate(made.certificate)
    issuer = x509.load_pem_x509_certificate(made.authority)
    certificate.verify_directly_issued_by(issuer)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [peer.to_uri()]
    uses = set(certificate.extensions.get_extension_for_oid(ExtensionOID.EXTENDED_KEY_USAGE).value)
    serves, dials = ExtendedKeyUsageOID.SERVER_AUTH in uses, ExtendedKeyUsageOID.CLIENT_AUTH in uses
    assert (serves, dials) == (role is not Role.HOME, role is not Role.NPDC)
    key = serialization.load_pem_private_key(made.key, None)
    assert key.public_key() == certificate.public_key()
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    assert certificate.not_valid_after_utc.year == 9999
    assert certificate.not_valid_before_utc < datetime.datetime(2021, 1, 1, tzinfo=datetime.UTC)


def test_a_key_is_not_shown_by_accident() -> None:
    made = Authority(bytes(MASTER_BYTES)).identity(Peer("uid", Role.MDC, 0, 0))
    assert "PRIVATE" not in repr(made)


@pytest.mark.parametrize("master", [b"", b"short", bytes(MASTER_BYTES + 1)])
def test_a_master_of_another_size_is_refused(master: bytes) -> None:
    with pytest.raises(BadMasterError, match=f"has {len(master)} bytes, 32 are expected"):
        Authority(master)


@given(PEERS)
def test_a_name_is_read_as_it_was_written(peer: Peer) -> None:
    assert Peer.from_uri(peer.to_uri()) == peer


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "spiffe://jobs.northpole.dev/u/mdc/1",
        "spiffe://jobs.northpole.dev/u/mdc/1/2/3",
        "spiffe://jobs.northpole.dev/u/elf/1/2",
        "spiffe://jobs.northpole.dev/u/mdc/one/2",
        "spiffe://jobs.northpole.dev/u/mdc/01/2",
        "spiffe://elsewhere/u/mdc/1/2",
        "u/mdc/1/2",
    ],
)
def test_anything_else_is_no_name(uri: str) -> None:
    with pytest.raises(ValueError, match="names no pod of a job"):
        Peer.from_uri(uri)
