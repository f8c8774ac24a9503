# SPDX-License-Identifier: MIT-0
FROM gcr.io/distroless/python3-debian12
WORKDIR /var/task
COPY runtime.py app.py ./
ENTRYPOINT ["python3", "runtime.py"]
CMD ["app.handler"]
