# SPDX-License-Identifier: MIT-0
"""`opentelemetry-instrument` in front and the handler patched, as its layer does: spans of the handler and its work."""

from opentelemetry import trace
from opentelemetry.instrumentation.aws_lambda import AwsLambdaInstrumentor


def work(event, context):
    with trace.get_tracer("shop").start_as_current_span("work") as span:
        span.set_attribute("path", event["rawPath"])
        if event["rawPath"] == "/fail":
            raise ValueError("on purpose")
        return {"sampled": span.get_span_context().trace_flags.sampled}


AwsLambdaInstrumentor().instrument()  # puts a wrapper into the place of what ORIG_HANDLER names
handler = work
