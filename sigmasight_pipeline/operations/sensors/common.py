"""What every sensor has in common: whether it runs as soon as it is loaded, and whether it runs now.

What belongs here: that, and nothing else. What does not: sensors.
"""

from __future__ import annotations

import dagster as dg

from sigmasight_pipeline.dagster_internals import InstigatorStatus, InstigatorType
from sigmasight_pipeline.settings import get_settings


def sensor_status() -> dg.DefaultSensorStatus:
    """RUNNING where the installation wants its sensors on (`sigmasight dev` does), else STOPPED."""
    on = get_settings().sensors == "on"
    return dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED


FOLLOWING = ("restatement", "backfills", "gaps")
"""Sensors that together follow what changed and then catch up with the sessions that waited for it."""


def changes_are_followed(instance: dg.DagsterInstance) -> bool:
    """Whether every sensor of `FOLLOWING` runs: what waits for them does not wait for ever."""
    states = instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
    by_hand = {state.instigator_name: state.status for state in states}
    default = sensor_status() is dg.DefaultSensorStatus.RUNNING

    def is_on(name: str) -> bool:
        status = by_hand.get(name, InstigatorStatus.DECLARED_IN_CODE)
        return default if status is InstigatorStatus.DECLARED_IN_CODE else status is InstigatorStatus.RUNNING

    return all(map(is_on, FOLLOWING))
