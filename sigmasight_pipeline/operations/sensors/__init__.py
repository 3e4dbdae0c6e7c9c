"""The sensors: what is looked at every so often, and acts once. One module each; none calculates anything."""

from sigmasight_pipeline.operations.sensors.alerts import alerts
from sigmasight_pipeline.operations.sensors.backfills import backfills
from sigmasight_pipeline.operations.sensors.gaps import gaps
from sigmasight_pipeline.operations.sensors.inbox import inbox
from sigmasight_pipeline.operations.sensors.restatement import restatement
from sigmasight_pipeline.operations.sensors.run_status import run_status

SENSORS = [inbox, gaps, restatement, backfills, run_status, alerts]
