"""One way to a Temporal client, so that API, worker and replayer cannot drift apart."""

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfig
from temporalio.runtime import Runtime

DATA_CONVERTER = pydantic_data_converter


async def connect(*, lazy: bool = False, runtime: Runtime | None = None) -> Client:
    """Connect as the SDK's own environment settings say (`TEMPORAL_ADDRESS`, `TEMPORAL_PROFILE`, ...)."""
    config = ClientConfig.load_client_connect_config()
    return await Client.connect(**config, data_converter=DATA_CONVERTER, lazy=lazy, runtime=runtime)
