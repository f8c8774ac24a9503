# SPDX-License-Identifier: MIT-0
FROM python:3.13-slim
WORKDIR /var/task
COPY bootstrap runtime.py app.py ./
ENTRYPOINT ["./bootstrap"]
CMD ["app.handler"]
