# One image for every process of Siaran: API, worker, fleet, and the one-shot commands. Installs exactly as `make setup` does.

FROM python:3.11-slim AS build
WORKDIR /app
RUN python3 -m venv .venv
COPY requirements.lock ./
RUN .venv/bin/python -m pip --disable-pip-version-check install -qq --require-hashes -r requirements.lock
COPY pyproject.toml README.md alembic.ini ./
COPY siaran ./siaran
COPY workflows ./workflows
COPY activities ./activities
COPY api ./api
COPY worker ./worker
COPY cli ./cli
COPY migrations ./migrations
RUN .venv/bin/python -m pip --disable-pip-version-check install -qq --no-deps --no-build-isolation --editable .

FROM python:3.11-slim
RUN useradd --uid 10001 --create-home siaran && install --directory --owner siaran /data
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 SIARAN_DATA_DIR=/data
USER siaran
VOLUME /data
EXPOSE 3000
CMD ["siaran", "api"]
