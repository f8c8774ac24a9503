#!/bin/sh
# SPDX-License-Identifier: MIT-0
# Step 0: the whole protocol in shell. The handler is a shell function: app.hello is `hello` in app.sh.
# shellcheck disable=SC1090 # it is not there yet
. "$LAMBDA_TASK_ROOT/${_HANDLER%.*}.sh"
api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation
while answer=$(curl -sSi "$api/next"); do
    id=$(printf '%s\n' "$answer" | tr -d '\r' | sed -n 's/^Lambda-Runtime-Aws-Request-Id: //p')
    event=$(printf '%s\n' "$answer" | tr -d '\r' | sed '1,/^$/d')
    "${_HANDLER##*.}" "$event" | curl -sS -o /dev/null -H 'Content-Type: application/json' \
        --data-binary @- "$api/$id/response"
done
