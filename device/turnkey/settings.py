"""The device's settings: one typed tree, from one TOML file and TURNKEY_* variables.

The file is the one that `TURNKEY_CONFIG` names, /etc/turnkey/device.toml where it names none. A variable overrides the
file: TURNKEY_BROKER__HOST=broker.station.example sets [broker] host. Relative paths are relative to the file.

Rules kept here:
1. Every limit has a name, a unit and a default that is safe.
2. An unknown key is an error: a misspelt limit must not become "no limit".
3. Secrets are files, never values: on the device they are systemd credentials.
"""

from __future__ import annotations

import os
import tomllib
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from turnkey.interlock.settings import InterlockSettings

DEFAULT_FILE = Path("/etc/turnkey/device.toml")
FILE_VARIABLE = "TURNKEY_CONFIG"


class SettingsError(ValueError):
    """The settings cannot be used; the message names the key and says what is wrong with it."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CameraSettings(_Section):
    """Where pictures come from.

    Attributes:
        adapter: `folder` plays the pictures of a directory.
        folder: that directory.
        repeat: start again after the last picture.
    """

    adapter: Literal["folder"] = "folder"
    folder: Path
    repeat: bool = False


class BrokerSettings(_Section):
    """The one broker the uplink talks to, over mutual TLS 1.3.

    Attributes:
        host, port: its address; `host` is also the name its certificate must carry.
        ca: the CA that issued the broker's certificate, PEM. No other is believed.
        certificate, key: the device's own pair, PEM.
        settle_s: unbroken seconds between the broker's acknowledgement and a lead's removal; above the broker's
            autosave interval.
    """

    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 8883
    ca: Path
    certificate: Path
    key: Path
    settle_s: Annotated[float, Field(ge=0, le=600)] = 15.0


class AttestationSettings(_Section):
    """What the device says of itself: boots, changes of state, heartbeats. It is always on the ledger.

    Attributes:
        publish: also publish it, signed, for IT and for witnesses.
        heartbeat_s: seconds between heartbeats.
        most_waiting: with so many messages waiting no further attestation is queued: an outage of weeks must not let
            heartbeats take the room of leads.
    """

    publish: bool = True
    heartbeat_s: Annotated[float, Field(ge=1, le=3600)] = 60.0
    most_waiting: Annotated[int, Field(ge=1)] = 20_000


class GallerySettings(_Section):
    """How the gallery is searched, and what its memory must be.

    Attributes:
        scan_budget_ms: where a scan of a partition takes longer, a graph that was built before stands in for it, and
            every result says so; None: always scan.
        require_locked_memory: refuse to run where templates in memory could reach a swap device.
    """

    scan_budget_ms: Annotated[float, Field(gt=0)] | None = None
    require_locked_memory: bool = True


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
    outbox: Path | None = None
    camera: CameraSettings
    broker: BrokerSettings
    interlock: InterlockSettings = InterlockSettings()
    gallery: GallerySettings = GallerySettings()
    attestation: AttestationSettings = AttestationSettings()

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
        return self.model_copy(
            update={
                **{name: base / getattr(self, name) for name in _PATHS},
                "outbox": base / self.outbox if self.outbox else None,
                "camera": self.camera.model_copy(update={"folder": base / self.camera.folder}),
                "broker": self.broker.model_copy(
                    update={name: base / getattr(self.broker, name) for name in ("ca", "certificate", "key")}
                ),
            }
        )


_PATHS = ("state", "models", "authority", "policy", "signing_key", "gallery_key")


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
