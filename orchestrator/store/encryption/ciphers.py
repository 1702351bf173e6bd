"""Providers with keys of their own: AES-GCM, AES-CBC, secretbox (XSalsa20 and Poly1305); and identity, which has none.

A provider seals a value for its place in the store (`key`), and opens what carries its prefix. Errors: NotOpened.
Source: Tasks, "Encrypting Confidential Data at Rest", "Available providers".
"""

from __future__ import annotations

import os
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.padding import PKCS7
from msgspec import Struct
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

PREFIX = b"k8s:enc:"
NONCE_BYTES, BLOCK_BYTES, TAG_BYTES = 12, 16, 16


class NotOpened(ValueError):
    """A value that this key did not seal, or not for this place."""


class Provider(Protocol):
    @property
    def prefix(self) -> bytes: ...

    def seal(self, value: bytes, key: str) -> bytes: ...

    def open(self, value: bytes, key: str) -> bytes: ...


def gcm_seal(secret: bytes, value: bytes, key: str) -> bytes:
    """A nonce, then what AES-GCM makes of the value. The key's place in the store is authenticated with it, so that
    values cannot be swapped."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(secret).encrypt(nonce, value, key.encode())


def gcm_open(secret: bytes, value: bytes, key: str) -> bytes:
    if len(value) < NONCE_BYTES + TAG_BYTES:
        raise NotOpened("the stored data was shorter than the required size")
    try:
        return AESGCM(secret).decrypt(value[:NONCE_BYTES], value[NONCE_BYTES:], key.encode())
    except InvalidTag as error:
        raise NotOpened("message authentication failed") from error


class AesGcm(Struct, frozen=True):
    name: str
    secret: bytes

    @property
    def prefix(self) -> bytes:
        return PREFIX + b"aesgcm:v1:" + self.name.encode() + b":"

    def seal(self, value: bytes, key: str) -> bytes:
        return gcm_seal(self.secret, value, key)

    def open(self, value: bytes, key: str) -> bytes:
        return gcm_open(self.secret, value, key)


class AesCbc(Struct, frozen=True):
    name: str
    secret: bytes

    @property
    def prefix(self) -> bytes:
        return PREFIX + b"aescbc:v1:" + self.name.encode() + b":"

    def seal(self, value: bytes, key: str) -> bytes:
        start = os.urandom(BLOCK_BYTES)
        padder = PKCS7(BLOCK_BYTES * 8).padder()
        encryptor = Cipher(algorithms.AES(self.secret), modes.CBC(start)).encryptor()
        return start + encryptor.update(padder.update(value) + padder.finalize()) + encryptor.finalize()

    def open(self, value: bytes, key: str) -> bytes:
        try:
            decryptor = Cipher(algorithms.AES(self.secret), modes.CBC(value[:BLOCK_BYTES])).decryptor()
            unpadder = PKCS7(BLOCK_BYTES * 8).unpadder()
            padded = decryptor.update(value[BLOCK_BYTES:]) + decryptor.finalize()
            return unpadder.update(padded) + unpadder.finalize()
        except ValueError as error:
            raise NotOpened(f"invalid padding: {error}") from error


class Secretbox:
    """The place in the store is not authenticated with it: that is how the format is."""

    def __init__(self, name: str, secret: bytes) -> None:
        self.prefix = PREFIX + b"secretbox:v1:" + name.encode() + b":"
        self._box = SecretBox(secret)

    def seal(self, value: bytes, key: str) -> bytes:
        return bytes(self._box.encrypt(value))

    def open(self, value: bytes, key: str) -> bytes:
        try:
            return self._box.decrypt(value)
        except (CryptoError, ValueError) as error:
            raise NotOpened(str(error)) from error


class Identity:
    """Values as they are; what another provider sealed is not for it to open."""

    prefix = b""

    def seal(self, value: bytes, key: str) -> bytes:
        return value

    def open(self, value: bytes, key: str) -> bytes:
        if value.startswith(PREFIX):
            raise NotOpened("identity transformer tried to read encrypted data")
        return value
