# The service's image: what poetry.lock says, without the `dev` extra; docs/decisions/0001 says why pip installs it.
FROM python:3.13-slim AS build

# A mirror of the package index, where one has to be used: docker build --build-arg PIP_INDEX_URL=…
ARG PIP_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore

RUN python -m venv --without-pip /venv \
    && pip install poetry==2.5.1 poetry-plugin-export==1.10.1
WORKDIR /build

# The dependencies are a layer of their own: a change of code does not fetch them again.
COPY pyproject.toml poetry.lock ./
RUN poetry export --output requirements.txt \
    && pip --python /venv/bin/python install --no-deps --require-hashes --requirement requirements.txt

COPY README.md LICENSE ./
COPY orchestrator orchestrator
COPY migrations migrations
COPY demo demo
RUN poetry build --format wheel \
    && pip --python /venv/bin/python install --no-deps --no-index dist/*.whl


FROM python:3.13-slim

# Nothing is written at run time, so the root file system may be read-only.
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
COPY --from=build /venv /venv
# The demo endpoint and agents are programs beside the service; docker-compose.yml starts them.
COPY demo demo

USER 10001:10001
STOPSIGNAL SIGTERM
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["orchestrator", "health"]
ENTRYPOINT ["orchestrator"]
CMD ["worker"]
