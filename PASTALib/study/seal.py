"""The key of a study: what is real and what synthetic. Sealed with the lead's passphrase, or a file that stays with the lead.

The passphrase becomes a key by scrypt, the text is encrypted and authenticated by Fernet (package ``cryptography``).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError
from .package import KEY

SEALED, OPEN, VERSION = "pasta-study-sealed", "pasta-study-key", 1
SHORTEST = 8
_SCRYPT = {"n": 2**16, "r": 8, "p": 1}  # some 64 MB and 0.2 s per attempt


@dataclass
class StudyKey:
    """The secret of one study.

    ``cases``: by opaque id ``{"truth": "real"|"synthetic", "source", "lesion_type", "sha256", "role": "realism"|"description"|"practice",
    "lesion_box": ...}``. ``signing``: secret with which the lead countersigns the closed study.
    """

    study_id: str
    seed: int
    cases: dict[str, dict]
    signing: str = field(default_factory=lambda: secrets.token_hex(32))

    def to_bytes(self) -> bytes:
        data = {
            "schema": OPEN,
            "version": VERSION,
            "study_id": self.study_id,
            "seed": self.seed,
            "signing": self.signing,
        }
        return json.dumps(data | {"cases": self.cases}, indent=1, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def from_bytes(cls, raw: bytes, where: Path) -> StudyKey:
        try:
            data = json.loads(raw.decode("utf-8"))
            if (data["schema"], data["version"]) != (OPEN, VERSION):
                raise ValueError(f"schema {data['schema']!r}")
            return cls(data["study_id"], int(data["seed"]), dict(data["cases"]), data["signing"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{where} is not the key of a study ({error}); give the file that pasta study new wrote"
            ) from None

    def sign(self, text: str) -> str:
        """The lead's signature (HMAC-SHA256, hex) of a text."""
        return hmac.new(bytes.fromhex(self.signing), text.encode(), hashlib.sha256).hexdigest()


def check_passphrase(passphrase: str) -> str:
    if len(passphrase) >= SHORTEST:
        return passphrase
    raise InputError(
        f"the passphrase has {len(passphrase)} characters; choose at least {SHORTEST}, better four random words"
    )


def seal(key: StudyKey, passphrase: str) -> bytes:
    """The contents of ``key.sealed``. InputError when ``cryptography`` is missing or the passphrase is too short."""
    fernet = _fernet()
    salt = secrets.token_bytes(16)
    token = fernet(_derived(check_passphrase(passphrase), salt, _SCRYPT)).encrypt(key.to_bytes())
    data = {
        "schema": SEALED,
        "version": VERSION,
        "study_id": key.study_id,
        "scrypt": _SCRYPT,
        "salt": salt.hex(),
        "token": token.decode(),
    }
    return json.dumps(data, indent=1).encode() + b"\n"


def unseal(path: Path, passphrase: str) -> StudyKey:
    """Read ``key.sealed``; InputError for a wrong passphrase or a damaged file."""
    fernet = _fernet()
    from cryptography.fernet import InvalidToken

    try:
        data = json.loads(path.read_bytes())
        if (data["schema"], data["version"]) != (SEALED, VERSION):
            raise ValueError(f"schema {data['schema']!r}")
        cost = {name: int(data["scrypt"][name]) for name in ("n", "r", "p")}
        if 128 * cost["n"] * cost["r"] > 2**30:
            raise ValueError("the cost is out of range")
        secret = _derived(passphrase, bytes.fromhex(data["salt"]), cost)
        token = data["token"].encode()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; give --key-file if the key was kept outside the study") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}); take it from your backup") from None
    try:
        return StudyKey.from_bytes(fernet(secret).decrypt(token), path)
    except InvalidToken:
        raise InputError(f"{path}: wrong passphrase (or a damaged file); try again") from None


def write_key_file(key: StudyKey, path: Path) -> None:
    """Write the key unencrypted, readable by this user only; InputError when the file exists or cannot be written."""
    path = Path(path)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key.to_bytes())
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise InputError(f"{path} exists already; a key is never overwritten, choose another name") from None
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); choose another place for the key") from None


def unlock(folder: Path, study_id: str, passphrase: str | None = None, key_file: Path | None = None) -> StudyKey:
    """The key of the study in ``folder``, from a key file or ``key.sealed``; InputError when it is another study's."""
    if key_file is not None:
        path = Path(key_file).expanduser()
        if not path.is_file():
            raise InputError(f"key file {path} does not exist; give the file that pasta study new --key-file wrote")
        key = StudyKey.from_bytes(path.read_bytes(), path)
    else:
        path = folder / KEY
        if not path.is_file():
            raise InputError(
                f"{folder} holds no {KEY}; this is a reader's copy, or the key was kept elsewhere: give --key-file"
            )
        if passphrase is None:
            raise InputError(f"{path} is sealed; give the lead's passphrase")
        key = unseal(path, passphrase)
    if key.study_id != study_id:
        raise InputError(f"{path} is the key of another study ({key.study_id}, this one is {study_id})")
    return key


def _fernet():
    try:
        from cryptography.fernet import Fernet
    except ImportError:
        raise InputError(
            'a passphrase needs the package cryptography (pip install "slicerpasta[study]"); or keep the key in a file: --key-file'
        ) from None
    return Fernet


def _derived(passphrase: str, salt: bytes, cost: dict) -> bytes:
    secret = hashlib.scrypt(passphrase.encode(), salt=salt, dklen=32, maxmem=2**30 + 2**20, **cost)
    return base64.urlsafe_b64encode(secret)
