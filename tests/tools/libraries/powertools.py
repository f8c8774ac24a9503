# SPDX-License-Identifier: MIT-0
"""The logger with the context, metrics in the log, a traced method, routes of an HTTP API."""

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver
from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.metrics import MetricUnit

logger = Logger(service="shop")
metrics = Metrics(namespace="Shop", service="shop")
tracer = Tracer(service="shop")
app = APIGatewayHttpResolver()


@app.get("/hello")
@tracer.capture_method
def hello():
    metrics.add_metric(name="Greetings", unit=MetricUnit.Count, value=1)
    logger.info("said hello", extra={"to": app.current_event.get_query_string_value("name", "nobody")})
    return {"hello": "world"}


@app.get("/fail")
def fail():
    raise ValueError("on purpose")


@logger.inject_lambda_context(correlation_id_path=correlation_paths.API_GATEWAY_HTTP, log_event=True)
@tracer.capture_lambda_handler
@metrics.log_metrics(capture_cold_start_metric=True)
def handler(event, context):
    return app.resolve(event, context)
