# SPDX-License-Identifier: MIT-0
FROM public.ecr.aws/lambda/python:3.13
COPY bootstrap runtime.py /opt/
COPY app.py ${LAMBDA_TASK_ROOT}
ENV AWS_LAMBDA_EXEC_WRAPPER=/opt/bootstrap
CMD ["app.handler"]
