"""What every sensor has in common: whether it runs as soon as it is loaded.

What belongs here: that, and nothing else. What does not: sensors.
"""

from __future__ import annotations

import dagster as dg

from sigmasight_pipeline.settings import get_settings


def sensor_status() -> dg.DefaultSensorStatus:
    """RUNNING where the installation wants its sensors on (`sigmasight dev` does), else STOPPED."""
    on = get_settings().sensors == "on"
    return dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED
