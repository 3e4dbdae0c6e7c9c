"""What the asset tests share: migrated databases, made as the storage tests make them."""

from sigmasight_pipeline_tests.storage.conftest import database, shared_database

__all__ = ["database", "shared_database"]
