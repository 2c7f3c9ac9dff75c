# docker build -t roofline .
# docker run --rm roofline                                                      (the demo)
# docker run --rm -v "$PWD:/data" roofline roofline all --config /data/town.toml
FROM python:3.11-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /roofline
COPY . .
RUN make setup EXTRA=cpu WITH=geo
ENV PATH="/roofline/.venv/bin:$PATH"
CMD ["make", "demo", "EXTRA=cpu", "WITH=geo"]
