"""AES and X25519 from the OpenSSL that Python itself carries, so that the tests need no package for a few standard calls."""

import ctypes
import ctypes.util
import hashlib
import hmac
from importlib.util import find_spec
from typing import Any

X25519 = 1034
"""OpenSSL's number of the key type."""

GET_TAG, SET_TAG = 0x10, 0x11
TAG_BYTES = 16

Pointer = ctypes.c_void_p


def _load_library() -> ctypes.CDLL:
    """The `libcrypto` behind Python's `ssl`: symbols of a module's dependencies are found through the module."""
    spec = find_spec("_ssl")
    path = spec.origin if spec and spec.origin and spec.origin != "built-in" else ctypes.util.find_library("crypto")
    library = ctypes.CDLL(path)
    for name in (
        "EVP_CIPHER_CTX_new",
        "EVP_aes_256_gcm",
        "EVP_aes_256_cbc",
        "EVP_aes_256_ctr",
        "EVP_PKEY_CTX_new",
        "EVP_PKEY_new_raw_private_key",
        "EVP_PKEY_new_raw_public_key",
    ):
        getattr(library, name).restype = Pointer
    return library


_library = _load_library()


class CryptoError(Exception):
    """OpenSSL refused an operation, as it does for a message that was not encrypted with this key."""


def _call(function: str, *arguments: Any) -> int:
    result = int(getattr(_library, function)(*arguments))
    if result <= 0:
        raise CryptoError(function)
    return result


def _run_cipher(
    cipher: str, *, encrypt: bool, key: bytes, iv: bytes, data: bytes, associated: bytes = b"", tag: bytes | None = None
) -> tuple[bytes, bytes]:
    """Encrypt or decrypt in one go; returns the output and, of GCM, the tag."""
    context = Pointer(_library.EVP_CIPHER_CTX_new())
    try:
        algorithm = Pointer(getattr(_library, cipher)())
        _call("EVP_CipherInit_ex", context, algorithm, None, key, iv, int(encrypt))
        length = ctypes.c_int()
        if associated:
            _call("EVP_CipherUpdate", context, None, ctypes.byref(length), associated, len(associated))
        output = ctypes.create_string_buffer(len(data) + 32)
        _call("EVP_CipherUpdate", context, output, ctypes.byref(length), data, len(data))
        written = length.value
        if tag is not None and not encrypt:
            _call("EVP_CIPHER_CTX_ctrl", context, SET_TAG, len(tag), tag)
        _call("EVP_CipherFinal_ex", context, ctypes.byref(output, written), ctypes.byref(length))
        written += length.value
        made_tag = ctypes.create_string_buffer(TAG_BYTES)
        if tag is not None and encrypt:
            _call("EVP_CIPHER_CTX_ctrl", context, GET_TAG, TAG_BYTES, made_tag)
        return output.raw[:written], made_tag.raw
    finally:
        _library.EVP_CIPHER_CTX_free(context)


def encrypt_gcm(key: bytes, nonce: bytes, plaintext: bytes, associated: bytes = b"") -> bytes:
    """AES-256-GCM: the ciphertext with its tag of 16 bytes behind it."""
    output, tag = _run_cipher(
        "EVP_aes_256_gcm", encrypt=True, key=key, iv=nonce, data=plaintext, associated=associated, tag=b""
    )
    return output + tag


def decrypt_gcm(key: bytes, nonce: bytes, ciphertext: bytes, associated: bytes = b"") -> bytes:
    """Undo `encrypt_gcm`; raises `CryptoError` if the tag does not fit."""
    data, tag = ciphertext[:-TAG_BYTES], ciphertext[-TAG_BYTES:]
    return _run_cipher("EVP_aes_256_gcm", encrypt=False, key=key, iv=nonce, data=data, associated=associated, tag=tag)[0]


def encrypt_cbc(key: bytes, iv: bytes, plaintext: bytes) -> bytes:
    """AES-256-CBC with PKCS #7 padding."""
    return _run_cipher("EVP_aes_256_cbc", encrypt=True, key=key, iv=iv, data=plaintext)[0]


def decrypt_cbc(key: bytes, iv: bytes, ciphertext: bytes) -> bytes:
    """Undo `encrypt_cbc`; raises `CryptoError` if the padding is wrong."""
    return _run_cipher("EVP_aes_256_cbc", encrypt=False, key=key, iv=iv, data=ciphertext)[0]


def apply_ctr(key: bytes, iv: bytes, data: bytes) -> bytes:
    """AES-256-CTR, which encrypts and decrypts alike."""
    return _run_cipher("EVP_aes_256_ctr", encrypt=True, key=key, iv=iv, data=data)[0]


def sign_hmac(key: bytes, *parts: bytes) -> bytes:
    """HMAC-SHA256 of the parts put together."""
    return hmac.digest(key, b"".join(parts), hashlib.sha256)


def derive(secret: bytes, salt: bytes | None, info: bytes, length: int) -> bytes:
    """HKDF-SHA256."""
    key, output, block = sign_hmac(salt or bytes(32), secret), b"", b""
    while len(output) < length:
        block = sign_hmac(key, block, info, bytes([len(output) // 32 + 1]))
        output += block
    return output[:length]


def public_key_of(private: bytes) -> bytes:
    """The X25519 public key of a private one."""
    key = Pointer(_library.EVP_PKEY_new_raw_private_key(X25519, None, private, ctypes.c_size_t(32)))
    try:
        public, size = ctypes.create_string_buffer(32), ctypes.c_size_t(32)
        _call("EVP_PKEY_get_raw_public_key", key, public, ctypes.byref(size))
        return public.raw
    finally:
        _library.EVP_PKEY_free(key)


def agree(private: bytes, public: bytes) -> bytes:
    """The secret that two X25519 keys share."""
    mine = Pointer(_library.EVP_PKEY_new_raw_private_key(X25519, None, private, ctypes.c_size_t(32)))
    theirs = Pointer(_library.EVP_PKEY_new_raw_public_key(X25519, None, public, ctypes.c_size_t(32)))
    context = Pointer(_library.EVP_PKEY_CTX_new(mine, None))
    try:
        _call("EVP_PKEY_derive_init", context)
        _call("EVP_PKEY_derive_set_peer", context, theirs)
        secret, size = ctypes.create_string_buffer(32), ctypes.c_size_t(32)
        _call("EVP_PKEY_derive", context, secret, ctypes.byref(size))
        return secret.raw
    finally:
        _library.EVP_PKEY_CTX_free(context)
        _library.EVP_PKEY_free(theirs)
        _library.EVP_PKEY_free(mine)
