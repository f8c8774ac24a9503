#!/bin/sh
# SPDX-License-Identifier: MIT-0
#
# verify_on_aws.sh: runs this runtime on AWS itself, in your account, and removes all that it made there.
#
#   tests/verify_on_aws.sh              one line a check; status 0 if all hold
#   DRY_RUN=1 tests/verify_on_aws.sh    only prints the commands
#
# Needs the AWS CLI 2.13 or later with credentials and a region, curl 7.88 or later, make and python3. Takes about two
# minutes, and up to ten more until Lambda ends an environment; costs less than a cent. It makes two functions, one
# function URL that asks for credentials, one layer, one role and two log groups, each with the name that is printed first.
set -eu
cd "$(dirname "$0")/.."

runtime=${RUNTIME:-python3.13} # a managed one
architecture=${ARCHITECTURE:-x86_64}
pause=${PAUSE:-5}           # seconds between two looks at something that takes time
patience=${PATIENCE:-120}   # how many looks at the log until SIGTERM
name=runtime-py-verify-$(date +%s)-$$
passed=0 failed=0
exec 3>&1

aws() {
    if [ -z "${DRY_RUN-}" ]; then
        command aws "$@"
        return
    fi
    printf 'aws' >&3
    for word in "$@"; do
        case $word in
        '' | *[!A-Za-z0-9_./:=,@+-]*) printf " '%s'" "$word" >&3 ;;
        *) printf ' %s' "$word" >&3 ;;
        esac
    done
    printf '\n' >&3
}

remove() { # COMMAND ... : what is not there any more, or was never made, is no reason to complain
    if ! aws "$@" >"$work/removed" 2>&1; then
        grep -q -e NoSuchEntity -e ResourceNotFound "$work/removed" || { cat "$work/removed" && left=1; } >&2
    fi
}

clean_up() {
    status=$?
    trap '' HUP INT TERM # no half measures
    set +e
    left=
    for function in "$name" "$name-async"; do
        remove lambda delete-function --function-name "$function"
    done
    remove lambda delete-layer-version --layer-name "$name" --version-number 1
    remove iam detach-role-policy --role-name "$name" --policy-arn "$policy"
    remove iam delete-role --role-name "$name"
    # Last, as a function that still has its role would make its log group again.
    for function in "$name" "$name-async"; do
        remove logs delete-log-group --log-group-name "/aws/lambda/$function"
    done
    rm -rf "$work"
    if [ -n "$left" ]; then
        echo "not all could be removed: look for $name" >&2
        [ "$status" != 0 ] || status=1
    fi
    exit "$status"
}

check() { # NAME PATTERN TEXT: a pattern of the shell's
    [ -z "${DRY_RUN-}" ] || return 0
    # shellcheck disable=SC2254 # it is meant as a pattern
    case $3 in
    $2)
        passed=$((passed + 1))
        echo "ok      $1"
        ;;
    *)
        failed=$((failed + 1))
        printf 'FAILED  %s\n        wanted: %s\n        got:    %.1000s\n' "$1" "$2" "$3"
        ;;
    esac
}

create() { # FUNCTION OPTION ...: a new role is unknown to Lambda for some seconds
    function=$1
    shift
    tries=12
    until aws lambda create-function --function-name "$function" --runtime "$runtime" --architectures "$architecture" \
        --role "$role" --zip-file "fileb://$work/function.zip" --layers "$layer" --timeout 30 --memory-size 256 \
        --environment "Variables={AWS_LAMBDA_EXEC_WRAPPER=/opt/bootstrap}" "$@" >/dev/null 2>"$work/why"; do
        tries=$((tries - 1))
        if [ "$tries" = 0 ] || ! grep -q 'cannot be assumed' "$work/why"; then
            cat "$work/why" >&2
            exit 1
        fi
        sleep "$pause"
    done
    aws lambda wait function-active-v2 --function-name "$function"
}

invoke() { # FUNCTION EVENT: sets error (None, or Unhandled), result and log, the last 4 KB of it
    printf '%s' "$2" >"$work/event"
    [ -z "${DRY_RUN-}" ] || echo "# event: $2"
    answer=$(aws lambda invoke --function-name "$1" --payload "fileb://$work/event" --log-type Tail \
        --query '[FunctionError, LogResult]' --output text "$work/result")
    [ -z "${DRY_RUN-}" ] || return 0
    error=${answer%%[!A-Za-z]*}
    log=$(printf '%s' "${answer##*[!A-Za-z0-9+/=]}" | base64 -d)
    result=$(cat "$work/result")
}

fetch() { # QUERY OPTION ...: from the function URL, signed; the secrets come through a pipe
    query=$1
    shift
    if [ -n "${DRY_RUN-}" ]; then
        echo "curl --silent --config - --aws-sigv4 aws:amz:<REGION>:lambda $* <FunctionUrl>?$query" >&3
        return
    fi
    region=${url#*.lambda-url.}
    (
        eval "$(aws configure export-credentials --format env-no-export)"
        printf 'user = "%s:%s"\n' "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY"
        [ -z "${AWS_SESSION_TOKEN-}" ] || printf 'header = "x-amz-security-token: %s"\n' "$AWS_SESSION_TOKEN"
    ) | curl --silent --config - --aws-sigv4 "aws:amz:${region%%.*}:lambda" "$@" "$url?$query"
}

logged() { # NAME TEXT LOOKS: whether the text turns up in the log group
    looks=$3 found=
    while [ "$looks" -gt 0 ] && [ -z "$found" ]; do
        found=$(aws logs filter-log-events --log-group-name "/aws/lambda/$name" --filter-pattern "\"$2\"" \
            --query 'events[].message' --output text)
        [ -z "${DRY_RUN-}" ] || return 0
        [ "$found" != None ] || found=
        looks=$((looks - 1))
        [ -n "$found" ] || [ "$looks" = 0 ] || sleep "$pause"
    done
    check "$1" "*$2*" "${found:-nothing of this kind in the log}"
}

# ──── what is deployed ────────────────────────────────────────────────────────────────────────────────────────────────

aws sts get-caller-identity --query Arn --output text # ends here if there are no credentials
echo "$name"
work=$(mktemp -d)
policy=arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

cp tests/sam/verify.py "$work"
chmod 644 "$work/verify.py"
make -s layer OUT="$work/layer.zip" >"$work/made"
(cd "$work" && python3 -m zipfile -c function.zip verify.py)

lambda='"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"'
role=$(aws iam create-role --role-name "$name" --query Role.Arn --output text \
    --assume-role-policy-document "{\"Version\": \"2012-10-17\", \"Statement\": [{$lambda}]}")
aws iam attach-role-policy --role-name "$name" --policy-arn "$policy"
layer=$(aws lambda publish-layer-version --layer-name "$name" --zip-file "fileb://$work/layer.zip" \
    --compatible-runtimes "$runtime" --query LayerVersionArn --output text)
if [ -n "${DRY_RUN-}" ]; then
    role='<Role.Arn>' layer='<LayerVersionArn>'
fi
create "$name" --handler verify.handler
create "$name-async" --handler verify.gather --logging-config LogFormat=JSON,ApplicationLogLevel=INFO
url=$(aws lambda create-function-url-config --function-name "$name" --auth-type AWS_IAM --invoke-mode RESPONSE_STREAM \
    --query FunctionUrl --output text)

# ──── what has to hold ────────────────────────────────────────────────────────────────────────────────────────────────

invoke "$name" '{"name": "Zoë"}'
first=${result-}
check "a result" '*"python": "3.*"event": {"name": "Zoë"}*' "$first"
check "a log record" '*\[INFO]	20??-*Z	*-*-*	asked to None*' "${log-}"

invoke "$name" '{"do": "fail"}'
check "an error is a function error" Unhandled "${error-}"
check "an error: what the caller gets" '*"failed as asked"*"ValueError"*verify.py*' "${result-}"
check "an error: its record" '*\[ERROR] ValueError: failed as asked*' "${log-}"

invoke "$name" '{"do": "return too much"}'
check "a response over 6 MB is a function error" '*ResponseSizeTooLarge*' "${result-}"
invoke "$name" '{"name": "Zoë"}'
check "errors and refusals cost no cold start" "$first" "${result-}"

invoke "$name" '{"do": "exit"}'
check "sys.exit() is a function error" '*"SystemExit"*' "${result-}"
invoke "$name" '{}'
check "after sys.exit() there is a new process" '*"process"*' "${result-}"

seen=$(fetch do=stream --include --no-buffer --write-out '%{time_starttransfer} %{time_total}')
check "a stream: status and headers" 'HTTP/1.1 201*[Xx]-[Pp]rocess: *item 0?item 1?item 2?*' "$seen"
check "a stream: items come as they are made" yes "$(printf '%s\n' "$seen" |
    awk 'END { print ($2 - $1 > 0.7 ? "yes" : "all at once: " $0) }')"
seen=$(fetch do=stream-20-mb --output /dev/null --write-out '%{http_code} %{size_download}')
check "a stream of 20 MB" "200 20971520" "$seen"
seen=$(fetch do=stream-and-fail || :) # curl may call it an error, too
check "an error amid a stream: the caller has the items before it" 'item 0*' "$seen"
logged "an error amid a stream: its record" "failed amid a stream" 24
seen=$(fetch do=fail --write-out ' %{http_code}')
check "an error before the first item is no stream" '*50?' "$seen"

invoke "$name-async" '{}'
first=${result-}
check "async def: awaits go on together" '{"together": true*' "$first"
check "JSON log records" '*"level": "INFO", "message": "awaits"*' "${log-}"
invoke "$name-async" '{}'
check "async def: the second event in the same process" "$first" "${result-}"

printf '{"do": "nothing"}' >"$work/event"
seen=$(aws lambda invoke --function-name "$name" --invocation-type Event --payload "fileb://$work/event" \
    --query StatusCode --output text "$work/result")
check "an asynchronous invocation" 202 "$seen"
logged "an asynchronous invocation is worked on" "asked to nothing" 24

# A function that is changed gets new environments, and Lambda ends the old ones.
aws lambda update-function-configuration --function-name "$name" --description changed >/dev/null
logged "SIGTERM arrives before an environment ends" "SIGTERM arrived" "$patience"

[ -n "${DRY_RUN-}" ] || echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
