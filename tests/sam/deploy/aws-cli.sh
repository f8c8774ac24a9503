# SPDX-License-Identifier: MIT-0
# --layers and --environment replace what the function has: add its other layers and variables.
layer=$(aws lambda publish-layer-version --layer-name runtime-py --zip-file fileb://layer.zip \
    --query LayerVersionArn --output text)
aws lambda update-function-configuration --function-name "$FUNCTION" --layers "$layer" \
    --environment "Variables={AWS_LAMBDA_EXEC_WRAPPER=/opt/bootstrap}"
aws lambda create-function-url-config --function-name "$FUNCTION" --auth-type AWS_IAM --invoke-mode RESPONSE_STREAM
