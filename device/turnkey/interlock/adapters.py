"""Which switch a device has: the one its settings name."""

from __future__ import annotations

from pathlib import Path

from turnkey.interlock.gpio import GpioSwitch
from turnkey.interlock.switch import SimulatedSwitch, Switch
from turnkey.settings import InterlockSettings


def open_switch(settings: InterlockSettings, simulated_file: Path) -> Switch:
    """The switch that the settings name. Lines that cannot be had are found out by reading them.

    Args:
        settings: the interlock's.
        simulated_file: where a simulated switch keeps its wires.
    """
    if settings.adapter == "gpio" and settings.lines is not None:
        return GpioSwitch(settings.lines, settings.pulse_width_ms)
    return SimulatedSwitch(simulated_file)
