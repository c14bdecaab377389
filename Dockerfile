# The wheel with its locked dependencies is installed in the first stage; the second has no build
# tools, no dev dependencies and no embedded PostgreSQL. scripts/image-steps tries this without Docker.
FROM python:3.12-slim AS build
ENV UV_PYTHON_DOWNLOADS=never
WORKDIR /src
COPY pyproject.toml uv.lock ./
RUN pip install --no-cache-dir "$(grep -o 'uv==[0-9.]*' pyproject.toml)"
COPY scripts/image-install ./scripts/
RUN scripts/image-install /opt/knowledged --no-install-project
COPY README.md LICENSE ./
COPY migrations ./migrations/
COPY generated ./generated/
COPY server ./server/
RUN scripts/image-install /opt/knowledged

FROM python:3.12-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/knowledged knowledged
COPY --from=build /opt/knowledged /opt/knowledged
ENV PATH=/opt/knowledged/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    KNOWLEDGED_HOST=0.0.0.0 \
    KNOWLEDGED_METRICS_HOST=0.0.0.0 \
    KNOWLEDGED_AUTH=token \
    KNOWLEDGED_ACCESS_FILE=/etc/knowledged/access.yaml \
    KNOWLEDGED_DATA_DIR=/var/lib/knowledged
WORKDIR /var/lib/knowledged
USER 10001
EXPOSE 50051 9464
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["knowledged", "health"]
ENTRYPOINT ["knowledged"]
CMD ["serve"]
