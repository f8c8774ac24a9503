# SPDX-License-Identifier: MIT-0
FROM public.ecr.aws/lambda/python:3.13
COPY bootstrap runtime.py /opt/
ENV AWS_LAMBDA_EXEC_WRAPPER=/opt/bootstrap
COPY app.py ./
CMD ["app.handler"]
