"""What tests of deploy/ may ask for."""

from __future__ import annotations

import os

import pytest

from sigmasight_pipeline.operations.instance import set_environment
from sigmasight_pipeline_tests.deploy.files import own_environment


@pytest.fixture(scope="module")
def needed(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The variables `sigmasight` sets before it starts Dagster."""
    with own_environment():
        os.environ.clear()
        url = "postgresql://x@localhost/x"
        set_environment(home=tmp_path_factory.mktemp("home"), database_url=url, dagster_url=url)
        return set(os.environ)
