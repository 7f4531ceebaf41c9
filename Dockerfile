# The reference environment: docker build -t replication . && docker run --rm -v "$PWD/figures:/replication/figures" replication make figures
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends gcc git libc6-dev make && rm -rf /var/lib/apt/lists/*
WORKDIR /replication
COPY . .
RUN make setup
CMD ["make", "reproduce-min"]
