# SPDX-License-Identifier: MIT-0
resource "aws_lambda_layer_version" "runtime" {
  layer_name       = "runtime-py"
  filename         = "layer.zip"
  source_code_hash = filebase64sha256("layer.zip")
}

resource "aws_lambda_function" "example" {
  function_name    = "example"
  role             = aws_iam_role.example.arn
  runtime          = "python3.13"
  handler          = "app.handler"
  filename         = "function.zip"
  source_code_hash = filebase64sha256("function.zip")
  layers           = [aws_lambda_layer_version.runtime.arn]

  environment {
    variables = { AWS_LAMBDA_EXEC_WRAPPER = "/opt/bootstrap" }
  }
}

resource "aws_lambda_function_url" "example" {
  function_name      = aws_lambda_function.example.function_name
  authorization_type = "AWS_IAM"
  invoke_mode        = "RESPONSE_STREAM"
}
