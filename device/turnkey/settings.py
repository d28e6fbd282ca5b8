"""The device's settings: one typed tree, from one TOML file and TURNKEY_* variables.

The file is the one that `TURNKEY_CONFIG` names, /etc/turnkey/device.toml where it names none. A variable overrides the
file: TURNKEY_BROKER__HOST=broker.station.example sets [broker] host. Relative paths are relative to the file.

Rules kept here:
1. Every limit has a name, a unit and a default that is safe.
2. An unknown key is an error: a misspelt limit must not become "no limit".
3. Secrets are files, never values: on the device they are systemd credentials.
4. Nothing electrical is guessed: a device with real lines names each of them, a device without says `simulated`.
5. A combination that could not be safe (a lease shorter than its renewal) is refused when it is read, not when it
   fails.
"""

from __future__ import annotations

import os
import tomllib
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from turnkey.settings_sections import (
    AttestationSettings,
    BrokerSettings,
    CameraSettings,
    ConsoleSettings,
    GallerySettings,
    GpioLines,
    InterlockSettings,
    SocketSettings,
    UpdateSettings,
)

__all__ = [
    "AttestationSettings",
    "BrokerSettings",
    "CameraSettings",
    "ConsoleSettings",
    "GallerySettings",
    "GpioLines",
    "InterlockSettings",
    "Settings",
    "SettingsError",
    "SocketSettings",
    "UpdateSettings",
    "read_settings",
    "settings_file",
]

DEFAULT_FILE = Path("/etc/turnkey/device.toml")
FILE_VARIABLE = "TURNKEY_CONFIG"


class SettingsError(ValueError):
    """The settings cannot be used; the message names the key and says what is wrong with it."""


class Settings(BaseSettings):
    """Everything a device is told.

    Attributes:
        device_id: also the topic level and the common name of the certificate.
        state: directory for gallery, ledger, outbox and latch.
        models: directory of the model files and their manifest.
        threads: CPU threads per model.
        authority: the authority this device was provisioned with (DSSE).
        policy: the signed policy (DSSE).
        signing_key: the notary's private key, PEM.
        gallery_key: file of 32 bytes.
        encryption_key: the private key that files for this device are sealed to, PEM; without it none is accepted.
        outbox: the outbox's file; in `state` where it is not given, since one process then has both.
    """

    model_config = SettingsConfigDict(
        env_prefix="TURNKEY_", env_nested_delimiter="__", frozen=True, extra="forbid", validate_default=True
    )

    device_id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{1,62}$")]
    state: Path = Path("/var/lib/turnkey")
    models: Path = Path("/usr/share/turnkey/models")
    threads: Annotated[int, Field(ge=1, le=8)] = 1
    authority: Path
    policy: Path
    signing_key: Path
    gallery_key: Path
    encryption_key: Path | None = None
    outbox: Path | None = None
    camera: CameraSettings
    broker: BrokerSettings
    interlock: InterlockSettings = InterlockSettings()
    gallery: GallerySettings = GallerySettings()
    attestation: AttestationSettings = AttestationSettings()
    update: UpdateSettings = UpdateSettings()
    console: ConsoleSettings = ConsoleSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment, then the file."""
        return init_settings, env_settings, _File(settings_cls)

    @property
    def outbox_file(self) -> Path:
        """Where the outbox is."""
        return self.outbox or self.state / "outbox.db"

    def resolved(self, base: Path) -> Settings:
        """The same settings with relative paths made absolute from `base`."""
        return _absolute(self, base, *_PATHS).model_copy(
            update={
                "camera": _absolute(self.camera, base, "folder"),
                "broker": _absolute(self.broker, base, "ca", "certificate", "key"),
                "update": _absolute(self.update, base, *_UPDATE_PATHS),
                "console": _absolute(self.console, base, "officers"),
            }
        )


_PATHS = ("state", "models", "authority", "policy", "signing_key", "gallery_key", "outbox", "encryption_key")
_Model = TypeVar("_Model", bound=BaseModel)
_UPDATE_PATHS = ("root", "ca", "certificate", "key", "folder", "release_file", "models", "restart_marker")


def _absolute(section: _Model, base: Path, *names: str) -> _Model:
    given = {name: value for name in names if (value := getattr(section, name)) is not None}
    return section.model_copy(update={name: base / value for name, value in given.items()})


class _File(TomlConfigSettingsSource):
    """The TOML file; its variable is not a setting itself."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls, _file.get(settings_file()))


_file: ContextVar[Path] = ContextVar("_file")


def settings_file() -> Path:
    """The file the settings are read from where none is given."""
    return Path(os.environ.get(FILE_VARIABLE, DEFAULT_FILE))


def read_settings(path: Path | None = None) -> Settings:
    """Read a file (`settings_file()` where none is given) and the environment.

    Raises:
        SettingsError: the file is missing or is not TOML, or a setting is missing, unknown or out of range.
    """
    path = path or settings_file()
    token = _file.set(path)
    try:
        # pydantic-settings takes a missing file for an empty one; for this device it is a mistake to be told of.
        path.read_bytes()
        values: dict[str, Any] = {}
        return Settings(**values).resolved(path.resolve().parent)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; name the settings with --config or {FILE_VARIABLE}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not TOML: {error}") from error
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
            for fault in error.errors(include_url=False)
        )
        raise SettingsError(f"{path}: {faults}") from error
    finally:
        _file.reset(token)
