# SPDX-License-Identifier: MIT-0
import aws_cdk
from aws_cdk import aws_lambda

app = aws_cdk.App()
stack = aws_cdk.Stack(app, "Example")
layer = aws_lambda.LayerVersion(stack, "Layer", code=aws_lambda.Code.from_asset("layer.zip"))
function = aws_lambda.Function(
    stack,
    "Function",
    runtime=aws_lambda.Runtime.PYTHON_3_13,
    handler="app.handler",
    code=aws_lambda.Code.from_asset("function.zip"),
    layers=[layer],
    environment={"AWS_LAMBDA_EXEC_WRAPPER": "/opt/bootstrap"},
)
function.add_function_url(invoke_mode=aws_lambda.InvokeMode.RESPONSE_STREAM)
app.synth()
