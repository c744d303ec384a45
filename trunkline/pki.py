"""A small certificate authority: enough for one fabric, its hosts, operators and the embedded etcd.

Certificates are EC P-256, for client and server use alike, and name an identity in a URI SAN
(`trunkline:host:docker1`), as `trunkline.tls` reads it. Private keys are written with mode 0600.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from trunkline.errors import Reason, Refusal
from trunkline.ids import check_name

KINDS: Final = ("host", "operator", "controller")
"""What an identity can be of."""

CA_DAYS: Final = 3650
LEAF_DAYS: Final = 825

# Clocks of hosts differ; a certificate that is valid "from now" is not yet valid on a host that runs late.
_SKEW: Final = datetime.timedelta(minutes=10)


def make_ca(directory: Path) -> tuple[Path, Path]:
    """Make `ca.crt` and `ca.key` in `directory` (made with mode 0700 if needed); return their paths.

    Raises INVALID_ARGUMENT when an authority is there already: replacing it would cut every host off.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    cert_path, key_path = directory / "ca.crt", directory / "ca.key"
    if cert_path.exists() or key_path.exists():
        raise Refusal(Reason.INVALID_ARGUMENT, f"{directory} holds an authority already", "choose another directory")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Trunkline fabric CA")])
    usage = _usage(key_cert_sign=True, crl_sign=True)
    cert = (
        _builder(name, name, key.public_key(), CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    _write_key(key_path, key)
    _write(cert_path, cert.public_bytes(serialization.Encoding.PEM), 0o644)
    return cert_path, key_path


def issue(directory: Path, identity: str, names: list[str]) -> tuple[Path, Path]:
    """Issue a certificate for `identity` ("host:docker1", "operator:ann", "controller:c1") from the authority in
    `directory`, valid for the DNS names and IP addresses in `names`; return (certificate, key) paths in it.

    Raises INVALID_ARGUMENT for an identity that is not one, or without an authority. An earlier certificate of
    the identity is replaced.
    """
    kind, _, name = identity.partition(":")
    if kind not in KINDS:
        raise Refusal(
            Reason.INVALID_ARGUMENT,
            f"identity {identity!r} is not valid",
            "write it as host:<name>, operator:<name> or controller:<name>",
        )
    check_name(kind, name)
    ca_cert, ca_key = _authority(directory)
    key = ec.generate_private_key(ec.SECP256R1())
    alternatives = [x509.UniformResourceIdentifier(f"trunkline:{identity}"), *map(_alternative, names)]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    cert = (
        _builder(subject, ca_cert.subject, key.public_key(), LEAF_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    stem = f"{kind}-{name}"
    cert_path, key_path = directory / f"{stem}.crt", directory / f"{stem}.key"
    _write_key(key_path, key)
    _write(cert_path, cert.public_bytes(serialization.Encoding.PEM), 0o644)
    return cert_path, key_path


def _authority(directory: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        cert = x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes())
        key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), password=None)
    except FileNotFoundError as error:
        raise Refusal(
            Reason.INVALID_ARGUMENT,
            f"there is no authority in {directory}: it has no {Path(error.filename).name}",
            f"make one: trunkline pki init {directory}; a machine that only got certificates cannot issue any",
        ) from None
    except (OSError, ValueError) as error:
        raise Refusal(
            Reason.INVALID_ARGUMENT,
            f"{directory} holds no usable authority: {error}",
            "restore ca.crt and ca.key from where they were made",
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Refusal(
            Reason.INVALID_ARGUMENT, f"{directory / 'ca.key'} is not an EC key", "trunkline pki init makes one"
        )
    return cert, key


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    if not name or not name.isascii():
        raise Refusal(Reason.INVALID_ARGUMENT, f"{name!r} is not a DNS name or IP address", "use ASCII (IDNA) names")
    return x509.DNSName(name)


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _write(path, pem, 0o600)


def _write(path: Path, data: bytes, mode: int) -> None:
    # The mode is set when the file is made, so that a key is at no time readable by others; the rename makes a
    # replaced certificate whole or not there.
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
    partial.replace(path)
