"""Of tests/model/test_executors.py, on S3, in threads and in processes."""

import pytest
from model.test_executors import test_every_executor_writes_the_same_study

__all__ = ["ENGINES", "executor", "test_every_executor_writes_the_same_study"]

ENGINES = ("tensorstore", "zarr-python")


@pytest.fixture(params=["threads", "processes"])
def executor(request: pytest.FixtureRequest) -> str:
    return request.param
