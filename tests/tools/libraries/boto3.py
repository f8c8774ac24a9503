# SPDX-License-Identifier: MIT-0
"""DynamoDB, SQS and S3 with a client made at import, a service's error."""

import boto3

dynamodb = boto3.resource("dynamodb").Table("greetings")
sqs, s3 = boto3.client("sqs"), boto3.client("s3")


def handler(event, context):
    dynamodb.put_item(Item={"path": event["rawPath"], "count": 1})
    s3.put_object(Bucket="greetings", Key="latest", Body=b"hello")
    if event["rawPath"] == "/fail":
        sqs.send_message(QueueUrl="http://nowhere/refused", MessageBody="hello")
    return dynamodb.table_status
