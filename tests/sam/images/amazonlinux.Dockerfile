# SPDX-License-Identifier: MIT-0
FROM public.ecr.aws/amazonlinux/amazonlinux:2023
WORKDIR /var/task
COPY bootstrap runtime.py app.py ./
ENTRYPOINT ["./bootstrap"]
CMD ["app.handler"]
