"""The assets: what depends on what. No formula, no SQL."""

import warnings

from dagster import BetaWarning

# backfill_policy is marked beta in Dagster 1.13; the project's runs rest on it and its tests cover it
warnings.filterwarnings("ignore", message=".*backfill_policy.*", category=BetaWarning)
# and so are links to source, of which nothing depends
warnings.filterwarnings("ignore", message=".*CodeReference.*", category=BetaWarning)
